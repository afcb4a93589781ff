"""The training loop."""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Never

import numpy as np
import torch
from tqdm import tqdm

from unroll.core.errors import UnrollError, is_out_of_memory
from unroll.core.settings import TrainConfig
from unroll.data.competition import UNLABELLED
from unroll.evaluation.metrics import score
from unroll.models.span_classifier import SpanClassifier
from unroll.text.batches import Batch, plan_batches
from unroll.text.corpus import Corpus
from unroll.text.spans import Ints
from unroll.training.checkpoint import Checkpoints
from unroll.training.distributed import join_processes, predict_sharded, shard_batch
from unroll.training.history import EpochRecord, History, OnEpoch, ignore_epoch
from unroll.training.losses import BatchTotals
from unroll.training.progress import open_bar
from unroll.training.state import TrainState, derive_seed
from unroll.training.word_dropout import drop_words


def fit(
    model: SpanClassifier,
    corpus: Corpus,
    train: Ints,
    valid: Ints,
    config: TrainConfig,
    *,
    seed: int,
    unlabelled: Ints = np.empty(0, np.int64),  # noqa: B008 (nothing writes into it)
    title: str = "training",
    on_epoch: OnEpoch = ignore_epoch,
    checkpoint: Path | None = None,
    quiet: bool = False,
) -> History:
    """Train a model, which ends with the weights of its best epoch.

    Two calls with the same arguments on one CPU give the same weights bit for bit, and so does a call that resumes
    from a checkpoint: every epoch draws from generators seeded by the seed and the epoch alone.

    Under torchrun all processes call this together. Each batch is split among them, so `batch_size` stays that of the
    whole, and the gradient is that of one process up to rounding; each process draws its own dropout. All end with the
    same weights and history. The main process alone reads and writes checkpoints and calls on_epoch.

    Args:
        model: trained in place.
        corpus: the arrays.
        train: numbers of the sequences to train on.
        valid: numbers of the sequences whose accuracy decides which epoch is the best.
        config: the recipe.
        seed: of batch order and dropout; the caller has initialised the model.
        unlabelled: numbers of further sequences for the language model, if the recipe has one; their labels are not
            used.
        title: names the training in messages.
        on_epoch: called after each epoch with its record and the spans per second; called again for the epochs of a
            checkpoint, with None for the speed.
        checkpoint: folder of checkpoints; if it holds one, training continues from there.
        quiet: show no progress.

    Raises:
        UnrollError: the loss became infinite or not a number, or a batch does not fit in memory.
    """
    processes = join_processes()
    if config.language_model and len(unlabelled):
        corpus, train = hide_labels(corpus, unlabelled), np.concatenate([train, unlabelled])
    lengths = np.diff(corpus.offsets)[train]
    spans = int(np.count_nonzero(corpus.labels[corpus.spans_of(train)] != UNLABELLED))
    steps = len(plan_batches(lengths, config.batch_size))
    epochs = max(config.epochs, math.ceil(config.min_steps / steps))
    counts = torch.from_numpy(np.bincount(corpus.tokens_of(train), minlength=model.tokens))
    state = TrainState(model, config, counts, seed=seed, steps=epochs * steps, title=title)

    checkpoints = Checkpoints(checkpoint) if checkpoint is not None and processes.is_main else None
    state.restore(processes.from_main(checkpoints.load() if checkpoints else None))
    for record in state.history.epochs if processes.is_main else ():
        on_epoch(record, None)

    done = len(state.history.epochs)
    with open_bar(title, total=epochs * spans, done=done * spans, quiet=quiet or not processes.is_main) as bar:
        for epoch in range(done + 1, epochs + 1):
            if state.is_patience_over():
                break
            began = time.perf_counter()
            torch.manual_seed(derive_seed(seed, epoch, processes.index))
            plan = plan_batches(lengths, config.batch_size, np.random.default_rng([seed, epoch]))
            batches = (shard_batch(corpus, train[chunk], processes) for chunk in plan)
            loss = train_epoch(state, batches, bar) / spans
            seconds = time.perf_counter() - began

            probabilities = predict_sharded(state.eval_model, corpus, valid, processes)
            scores = score(probabilities, corpus.labels[corpus.spans_of(valid)])
            valid_scores = {f"valid_{name}": value for name, value in scores.items()}
            record = EpochRecord(epoch=epoch, loss=loss, lr=float(state.schedule.get_last_lr()[0]), **valid_scores)
            state.add(record)
            if checkpoints:
                checkpoints.save(epoch, state.content())
            if processes.is_main:
                on_epoch(record, spans / seconds)

    model.load_state_dict(state.best_weights)
    return state.history


def train_epoch(state: TrainState, batches: Iterable[tuple[Batch, BatchTotals, int]], bar: "tqdm[Never]") -> float:
    """Take a step for each batch; return the sum of the loss over all labelled spans, in nats.

    Raises:
        UnrollError: the loss is infinite or not a number, or a batch does not fit in memory.
    """
    state.objective.train()
    total_loss = 0.0
    for step, (batch, totals, spans) in enumerate(batches, start=1):
        batch = batch.to(state.accelerator.device)
        batch = batch.with_tokens(drop_words(batch.tokens, state.drop_rates))
        with _out_of_memory_explained(state, batch):
            loss = state.step(batch, totals)
        if not math.isfinite(loss):
            raise UnrollError(
                f"{state.title}: the loss is {loss} at epoch {len(state.history.epochs) + 1}, batch {step}; lower "
                f"train.lr (now {state.config.lr}) or set train.clip_norm (now {state.config.clip_norm})"
            )
        total_loss += loss * spans
        bar.update(spans)
        bar.set_postfix_str(f"loss {loss:.3f}{state.describe_last_epoch()}", refresh=False)
    return total_loss


@contextmanager
def _out_of_memory_explained(state: TrainState, batch: Batch) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        sequences, length = batch.tokens.shape
        raise UnrollError(
            f"{state.title}: out of memory at a batch of {sequences} sequences of {length} tokens; lower "
            f"train.batch_size (now {state.config.batch_size}), model.hidden or model.layers in params.yaml"
        ) from None


def hide_labels(corpus: Corpus, sequences: Ints) -> Corpus:
    """Return the corpus without the labels of the given sequences' spans."""
    labels = np.array(corpus.labels)
    labels[corpus.spans_of(sequences)] = UNLABELLED
    return replace(corpus, labels=labels)
