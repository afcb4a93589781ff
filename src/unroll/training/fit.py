"""The training loop."""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Never

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from unroll.core.errors import UnrollError, is_out_of_memory
from unroll.core.settings import TrainConfig
from unroll.data.competition import UNLABELLED
from unroll.evaluation.metrics import score
from unroll.models.span_classifier import SpanClassifier
from unroll.text.batches import Batch, plan_batches
from unroll.text.corpus import Corpus
from unroll.text.spans import Ints
from unroll.training.checkpoint import load_checkpoint, save_checkpoint
from unroll.training.distributed import Processes, join_processes, predict_sharded, shard_batch
from unroll.training.history import EpochRecord, History, OnEpoch
from unroll.training.losses import BatchTotals
from unroll.training.optimization import drop_words
from unroll.training.progress import open_bar
from unroll.training.state import TrainState, derive_seed


def fit(
    model: SpanClassifier, corpus: Corpus, train: Ints, valid: Ints, config: TrainConfig, *, seed: int,
    unlabelled: Ints | None = None, title: str = "training", on_epoch: OnEpoch = lambda record, speed: None,
    checkpoint: Path | None = None, quiet: bool = False,
) -> History:  # fmt: skip
    """Train a model, which ends with the weights of its best epoch.

    The same arguments give the same weights bit for bit on one CPU, also if training continues from a checkpoint: every
    epoch draws from generators seeded by the seed and the epoch alone. Under torchrun all processes call this together;
    each batch is split among them, and the gradient is that of the whole batch up to rounding, but for dropout.

    Args:
        model: trained in place.
        corpus: the arrays.
        train: numbers of the sequences to train on.
        valid: numbers of the sequences whose accuracy decides which epoch is the best.
        config: the recipe.
        seed: of batch order and dropout; the caller has initialised the model.
        unlabelled: numbers of further sequences for the language model, if the recipe has one; their labels are hidden.
        title: names the training in messages.
        on_epoch: called by the main process with an epoch's record and the spans per second; first for the epochs of a
            checkpoint, with None for the speed.
        checkpoint: folder of checkpoints; if it holds one, training continues from there.
        quiet: show no progress.

    Raises:
        UnrollError: the loss became infinite or not a number, or a batch does not fit in memory.
    """
    processes = join_processes()
    if not processes.is_main:
        checkpoint, on_epoch, quiet = None, lambda record, speed: None, True
    if config.language_model and unlabelled is not None:
        corpus, train = hide_labels(corpus, unlabelled), np.concatenate([train, unlabelled])
    batches = EpochBatches(corpus, train, config.batch_size, seed, processes)
    epochs = max(config.epochs, math.ceil(config.min_steps / batches.steps))
    state = TrainState(model, config, batches.token_counts(model.tokens), epochs * batches.steps, seed)
    state.restore(processes.from_main(load_checkpoint(checkpoint) if checkpoint else None))
    done = state.history.epochs.copy()
    for record in done:
        on_epoch(record, None)
    with open_bar(title, epochs * batches.spans, len(done) * batches.spans, quiet=quiet) as bar:
        for epoch in range(len(done) + 1, epochs + 1):
            if state.is_patience_over():
                break
            began = time.perf_counter()
            torch.manual_seed(derive_seed(seed, epoch, processes.index))
            loss = train_epoch(title, state, batches.of_epoch(epoch), bar) / batches.spans
            speed = batches.spans / (time.perf_counter() - began)
            record = validate(state, corpus, valid, processes, epoch=epoch, loss=loss)
            state.add(record)
            if checkpoint:
                save_checkpoint(checkpoint, epoch, state.content())
            on_epoch(record, speed)
    model.load_state_dict(state.best_weights)
    return state.history


def train_epoch(
    title: str, state: TrainState, batches: Iterable[tuple[Batch, BatchTotals, int]], bar: "tqdm[Never]"
) -> float:
    """Take a step for each batch, and return the summed loss of all labelled spans, in nats.

    Raises:
        UnrollError: see fit.
    """
    state.objective.train()
    total_loss = 0.0
    for step, (batch, totals, spans) in enumerate(batches, start=1):
        batch = batch.to(state.accelerator.device)
        batch = batch.with_tokens(drop_words(batch.tokens, state.drop_rates))
        try:
            loss = state.step(batch, totals)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise UnrollError(_explain_out_of_memory(title, batch, state.config)) from None
            raise
        if not math.isfinite(loss):
            raise UnrollError(
                f"{title}: the loss is {loss} at epoch {len(state.history.epochs) + 1}, batch {step}; lower "
                f"train.lr (now {state.config.lr}) or set train.clip_norm (now {state.config.clip_norm})"
            )
        total_loss += loss * spans
        bar.update(spans)
        accuracy = f", accuracy {state.history.epochs[-1].valid_accuracy:.4f}" if state.history.epochs else ""
        bar.set_postfix_str(f"loss {loss:.3f}{accuracy}", refresh=False)
    return total_loss


def _explain_out_of_memory(title: str, batch: Batch, config: TrainConfig) -> str:
    sequences, length = batch.tokens.shape
    return (
        f"{title}: out of memory at a batch of {sequences} sequences of {length} tokens; lower train.batch_size (now "
        f"{config.batch_size}), model.hidden or model.layers in params.yaml"
    )


def validate(
    state: TrainState, corpus: Corpus, valid: Ints, processes: Processes, *, epoch: int, loss: float
) -> EpochRecord:
    """Return the record of an epoch with its scores on the sequences held out."""
    probabilities = predict_sharded(state.eval_model, corpus, valid, processes)
    scores = score(probabilities, corpus.labels[corpus.spans_of(valid)])
    rate = float(state.schedule.get_last_lr()[0])
    return EpochRecord(epoch=epoch, loss=loss, lr=rate, **{f"valid_{name}": scores[name] for name in scores})


@dataclass(frozen=True)
class EpochBatches:
    """Batches of sequences of one length, in an order that each epoch draws anew from the seed."""

    corpus: Corpus
    sequences: Ints
    batch_size: int
    seed: int
    processes: Processes

    @cached_property
    def lengths(self) -> Ints:
        """Return the length of each sequence, (S,)."""
        return np.diff(self.corpus.offsets)[self.sequences]

    @cached_property
    def steps(self) -> int:
        """Return the number of batches."""
        return len(plan_batches(self.lengths, self.batch_size))

    @cached_property
    def spans(self) -> int:
        """Return the number of labelled spans."""
        return int(np.count_nonzero(self.corpus.labels[self.corpus.spans_of(self.sequences)] != UNLABELLED))

    def token_counts(self, tokens: int) -> Tensor:
        """Return the number of occurrences of each of the tokens, (V,)."""
        return torch.from_numpy(np.bincount(self.corpus.tokens_of(self.sequences), minlength=tokens))

    def of_epoch(self, epoch: int) -> Iterator[tuple[Batch, BatchTotals, int]]:
        """Yield this process' shard of each batch."""
        plan = plan_batches(self.lengths, self.batch_size, np.random.default_rng([self.seed, epoch]))
        return (shard_batch(self.corpus, self.sequences[chunk], self.processes) for chunk in plan)


def hide_labels(corpus: Corpus, sequences: Ints) -> Corpus:
    """Return the corpus without the labels of the given sequences' spans."""
    labels = np.array(corpus.labels)
    labels[corpus.spans_of(sequences)] = UNLABELLED
    return replace(corpus, labels=labels)
