"""Optimizer, learning rate schedule, weight averaging, precision and word dropout."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from unroll.core.settings import TrainConfig
from unroll.text.vocabulary import UNKNOWN_ID


def choose_precision(wanted: str) -> str:
    """Return accelerate's name for a precision: `auto` is bf16 on a CUDA device that has it, fp32 elsewhere."""
    if wanted == "auto":
        return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"
    return "no" if wanted == "fp32" else wanted


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Let a CPU take numbers below 1e-38 as zero, in a block.

    Gradients that vanish over a long text get as small, and a step with such numbers takes several times as long.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


ENCODER = ("model.embedding.", "model.recurrent.")  # names of the weights that a pretrained model brings


def make_optimizer(model: nn.Module, config: TrainConfig, encoder_lr: float = 1.0) -> torch.optim.Optimizer:
    """Return a fused Adam or AdamW: on a CPU its step over a word embedding is about twenty times as fast.

    Weights of the encoder learn at `encoder_lr` times the rate of the others (discriminative fine-tuning: Howard and
    Ruder, 2018, "Universal language model fine-tuning for text classification").
    """
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    groups: list[dict[str, Any]] = [{"params": [], "lr": config.lr}, {"params": [], "lr": config.lr * encoder_lr}]
    for name, weight in model.named_parameters():
        groups[encoder_lr != 1 and name.startswith(ENCODER)]["params"].append(weight)
    kept = [group for group in groups if group["params"]]
    return kind(kept, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig, steps: int) -> LRScheduler:
    """Return the schedule of the learning rate over all steps of a training (one cycle: Smith and Topin, 2017)."""
    if config.schedule == "constant":
        return LambdaLR(optimizer, lambda step: 1.0)
    rise = max(config.warmup, 2 / (steps + 1))  # OneCycleLR divides by the length of the rise
    rates = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, rates, total_steps=steps + 1, pct_start=rise, cycle_momentum=False)


def word_drop_rates(counts: Tensor, config: TrainConfig) -> Tensor:
    """Return how often each token is read as unknown in training, (V,), given its number of occurrences, (V,).

    A word is dropped with the rate `word_dropout`, and independently with a / (a + its count), where a is
    `rare_word_dropout`: words seen once teach the model to read unknown words (Kiperwasser and Goldberg, 2016, "Simple
    and accurate dependency parsing using bidirectional LSTM feature representations").
    """
    counts = counts.float()
    rare = config.rare_word_dropout / (config.rare_word_dropout + counts).clamp(min=1e-9)
    return 1 - (1 - config.word_dropout) * (1 - rare)


def drop_words(tokens: Tensor, rates: Tensor) -> Tensor:
    """Replace tokens (B, T) by the unknown token, each with its own rate, (V,)."""
    return tokens.masked_fill(torch.rand(tokens.shape, device=tokens.device) < rates[tokens], UNKNOWN_ID)
