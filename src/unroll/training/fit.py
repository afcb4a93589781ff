"""The training loop."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Never

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from unroll.core.errors import UnrollError, is_out_of_memory, warn
from unroll.core.settings import TrainConfig
from unroll.data.competition import Competition
from unroll.evaluation.metrics import score
from unroll.models.span_classifier import SpanClassifier
from unroll.text.batches import plan_batches
from unroll.text.corpus import Corpus, Ints
from unroll.training.distributed import count_labelled, join_processes, predict_sharded, shard_batch
from unroll.training.graphs import GraphedStep, supports
from unroll.training.progress import open_bar
from unroll.training.state import EpochRecord, History, OnEpoch, TrainState, derive_seed

STEPS_A_READING = 100  # of the loss, on a device that a reading waits for


def fit(
    model: SpanClassifier, corpus: Corpus, train: Ints, valid: Ints, config: TrainConfig, task: Competition, *,
    seed: int, title: str = "training", on_epoch: OnEpoch = lambda record, speed: None, checkpoint: Path | None = None,
    share: float = 1.0, is_pretrained: bool = False, quiet: bool = False,
) -> History:  # fmt: skip
    """Train a model, which ends with the weights of its best epoch, or of its last one where no rows are held out.

    The same arguments give the same weights bit for bit on one CPU, also from a checkpoint on: every epoch draws from
    generators seeded by the seed and the epoch alone. Under torchrun all processes call this together; a batch is split
    among them, and the gradient is that of the whole batch up to rounding, but for dropout.

    Args:
        model: trained in place; the caller has initialised it.
        corpus: the arrays.
        train: numbers of the sequences to train on; those without labels serve the language model alone.
        valid: numbers of the sequences whose score decides which epoch is the best; may be empty.
        config: the recipe.
        task: what is predicted, and the metric.
        seed: of batch order and dropout.
        title: names the training in messages.
        on_epoch: called by the main process with an epoch's record and the spans per second, None from a checkpoint.
        checkpoint: folder of checkpoints; if it holds one, training continues from there.
        is_pretrained: whether the model brings weights of a pretrained one; see TrainState.
        share: of the planned epochs after which training stops, the schedule of the learning rate being for all.
        quiet: show no progress.

    Raises:
        UnrollError: the loss became infinite or not a number, or a batch does not fit in memory.
    """
    processes = join_processes()
    if not processes.is_main:
        checkpoint, on_epoch, quiet = None, lambda record, speed: None, True
    plan = partial(plan_batches, np.diff(corpus.offsets)[train], config.batch_size, config.batch_tokens)
    steps, spans = len(plan()), count_labelled(corpus, train)
    epochs = max(config.epochs, math.ceil(config.min_steps / steps))
    counts = torch.from_numpy(np.bincount(corpus.tokens_of(train), minlength=model.tokens))
    state = TrainState(model, config, counts, epochs * steps, seed, task.metric, is_pretrained=is_pretrained)
    state.history.planned, epochs = epochs, max(1, round(share * epochs))
    done = state.resume(checkpoint, on_epoch)
    train_step = make_train_step(state, corpus)
    with open_bar(title, epochs * spans, done * spans, quiet=quiet) as bar:
        for epoch in range(done + 1, epochs + 1):
            if state.is_patience_over():
                break
            began = time.perf_counter()
            torch.manual_seed(derive_seed(seed, epoch, processes.index))
            chosen = (train[chunk] for chunk in plan(np.random.default_rng([seed, epoch])))
            batches = ((sequences, count_labelled(corpus, sequences)) for sequences in chosen)
            loss = train_epoch(title, train_step, batches, bar) / spans
            speed = spans / (time.perf_counter() - began)
            scores = score_spans(task, corpus, valid, predict_sharded(state.eval_model, corpus, valid, processes))
            record = EpochRecord(epoch, loss, state.learning_rate(), scores)
            state.add(record)
            if checkpoint:
                state.save(checkpoint)
            on_epoch(record, speed)
    model.load_state_dict(state.best_weights)
    return state.history


def score_spans(
    task: Competition, corpus: Corpus, sequences: Ints, predictions: npt.NDArray[np.float32]
) -> dict[str, float]:
    """Return the scores of predictions (R, P) of sequences by metric, none where there are no sequences."""
    truth = corpus.targets[corpus.spans_of(sequences)]
    return score(task, predictions, truth) if len(truth) else {}


@dataclass(frozen=True)
class EagerStep:
    """Takes a training step for a batch, or for this process' shard of it."""

    state: TrainState
    corpus: Corpus

    def __call__(self, sequences: Ints) -> Tensor:
        """Take a step for the sequences of these numbers, and return the loss to report, on the device."""
        batch, totals = shard_batch(self.corpus, sequences, join_processes())
        loss = self.state.update(batch.to(self.state.accelerator.device), totals)
        self.state.advance()
        return loss


TrainStep = EagerStep | GraphedStep


def make_train_step(state: TrainState, corpus: Corpus) -> TrainStep:
    """Return what takes a step, as a captured graph where that is supported and the corpus fits on the device."""
    if supports(state):
        try:
            return GraphedStep(state, corpus)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            warn("the corpus does not fit in the device's memory, so no graphs are captured: training is slower")
    return EagerStep(state, corpus)


def train_epoch(
    title: str, train_step: TrainStep, batches: Iterable[tuple[Ints, int]], bar: "tqdm[Never]", section: str = "train"
) -> float:
    """Take a step for each batch of sequences, and return the summed loss, each batch's times its weight, in nats.

    The section is that of the settings, for messages.

    Raises:
        UnrollError: see fit.
    """
    state = train_step.state
    state.objective.train()
    device, metric, epochs = state.accelerator.device, state.history.metric, state.history.epochs
    losses, weights = [], []
    scored = f", {metric} {epochs[-1].scores[metric]:.4f}" if epochs and epochs[-1].scores else ""
    for step, (sequences, weight) in enumerate(batches, start=1):
        try:
            losses.append(train_step(sequences))
            is_read = device.type == "cpu" or step % STEPS_A_READING == 0
            loss = float(losses[-1]) if is_read else 0.0
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            offsets = train_step.corpus.offsets
            length = int((offsets[sequences + 1] - offsets[sequences]).max())
            tokens = f"train.batch_tokens (now {state.config.batch_tokens})"
            longest = tokens if section == "train" else f"{section}.chunk (now {length})"
            raise UnrollError(
                f"{title}: out of memory at a batch of {len(sequences)} sequences of {length} tokens; lower "
                f"{section}.batch_size (now {state.config.batch_size}), {longest}, model.hidden or model.layers in "
                "params.yaml"
            ) from None
        if not math.isfinite(loss):
            raise UnrollError(
                f"{title}: the loss is {loss} at epoch {len(epochs) + 1}, batch {step}; lower "
                f"{section}.lr (now {state.config.lr})"
                + (f" or set train.clip_norm (now {state.config.clip_norm})" if section == "train" else "")
            )
        weights.append(weight)
        bar.update(weight)
        if is_read:
            bar.set_postfix_str(f"loss {loss:.3f}{scored}", refresh=False)
    state.complete()
    total = float(torch.stack(losses).cpu().double() @ torch.tensor(weights, dtype=torch.float64))
    if not math.isfinite(total):
        raise UnrollError(
            f"{title}: the loss is {total} after epoch {len(epochs) + 1}; lower {section}.lr (now {state.config.lr})"
        )
    return total
