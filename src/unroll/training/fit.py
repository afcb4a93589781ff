"""The one training loop, on accelerate, and prediction."""

import copy
import math
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from unroll.core.errors import UnrollError
from unroll.core.settings import TrainConfig
from unroll.data.competition import UNLABELLED
from unroll.evaluation.metrics import score
from unroll.models.inference import predict
from unroll.models.span_classifier import SpanClassifier
from unroll.text.batches import Batch, make_batch, plan_batches
from unroll.text.corpus import Corpus
from unroll.text.spans import Ints
from unroll.training.checkpoint import Checkpoints
from unroll.training.distributed import Processes, join_processes
from unroll.training.history import EpochRecord, History, OnEpoch, ignore_epoch
from unroll.training.losses import BatchTotals, Objective
from unroll.training.micro_batches import Halving
from unroll.training.optimization import choose_precision, make_average, make_optimizer, make_schedule
from unroll.training.progress import Progress
from unroll.training.word_dropout import drop_words, word_drop_rates


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
    """Train a model; at the end it holds the weights of its best epoch.

    Two calls with the same arguments on one CPU give the same weights bit for bit, and so does a call that goes on
    from a checkpoint: every epoch draws from generators seeded by the seed and the epoch alone.

    Under torchrun all processes call this together. Each batch is split among them, so `batch_size` stays that of the
    whole, and the gradient is that of one process but for the order of its sums; dropout draws anew in each. All end
    with the same weights and history. The main process alone reads and writes checkpoints.

    Args:
        model: trained in place.
        corpus: the arrays.
        train: numbers of the sequences to train on.
        valid: numbers of the sequences whose accuracy decides which epoch is the best.
        config: the recipe.
        seed: of batch order and dropout; the model's first weights are the caller's.
        unlabelled: numbers of the sequences that a language model reads along, where the recipe has one; their labels,
            where there are any, are not looked at.
        title: stands before the progress.
        on_epoch: called after each epoch with what it gave and the spans trained on each second; the epochs read
            from a checkpoint are repeated, with None for their speed.
        checkpoint: folder of the states after the last finished epochs; where there is one, training goes on from it.
        quiet: show no progress.

    Raises:
        UnrollError: the loss became infinite or not a number.
    """
    processes = join_processes()
    accelerator = Accelerator(mixed_precision=choose_precision(config.precision))
    if config.language_model and len(unlabelled):
        corpus, train = hide_labels(corpus, unlabelled), np.concatenate([train, unlabelled])
    lengths = np.diff(corpus.offsets)[train]
    steps = len(plan_batches(lengths, config.batch_size))
    epochs = max(config.epochs, math.ceil(config.min_steps / steps))
    averaged = AveragedModel(model, multi_avg_fn=make_average(config.ema)) if config.ema else None
    counts = torch.from_numpy(np.bincount(corpus.tokens_of(train), minlength=model.tokens))
    drop_rates = word_drop_rates(counts, config).to(accelerator.device)
    torch.manual_seed(_seed_of(seed, 0, 0))  # of the first weights that the language model has beside the model's
    objective = Objective(model, config, counts)
    optimizer = make_optimizer(objective, config)
    schedule = make_schedule(optimizer, config, epochs * steps)
    state = TrainState(objective, averaged, optimizer, schedule)
    checkpoints = Checkpoints(checkpoint) if checkpoint is not None and processes.is_main else None
    saved = processes.from_main(checkpoints.load() if checkpoints is not None else None)
    if saved is not None:
        state.restore(saved)
    for record in state.history.epochs if processes.is_main else ():
        on_epoch(record, None)
    wrapped, optimizer = accelerator.prepare(objective, optimizer)
    eval_model = averaged.to(accelerator.device).module if averaged is not None else model
    spans = count_labelled(corpus, train)
    halving = Halving(title, may_cut=processes.count == 1)

    def learn_part(part: Batch, totals: BatchTotals) -> Tensor:
        loss: Tensor
        loss_of_labels: Tensor
        loss, loss_of_labels = wrapped(part, totals)
        accelerator.backward(loss * processes.count if processes.count > 1 else loss)  # it takes the processes' mean
        return loss_of_labels

    progress = Progress(
        title, epochs=epochs, spans=spans, done=len(state.history.epochs), quiet=quiet or not processes.is_main
    )

    for epoch in range(len(state.history.epochs) + 1, epochs + 1):
        if state.is_patience_over(config.patience):
            break
        torch.manual_seed(_seed_of(seed, epoch, processes.index))
        plan = plan_batches(lengths, config.batch_size, np.random.default_rng([seed, epoch]))
        wrapped.train()
        begin, total_loss = time.perf_counter(), 0.0
        for step, chunk in enumerate(plan, start=1):
            batch, totals, size = shard_batch(corpus, train[chunk], processes)
            batch = batch.to(accelerator.device)
            batch = batch.with_tokens(drop_words(batch.tokens, drop_rates))
            loss = halving.learn(batch, optimizer.zero_grad, partial(learn_part, totals=totals))
            if config.clip_norm is not None:
                accelerator.clip_grad_norm_(wrapped.parameters(), config.clip_norm)
            optimizer.step()
            schedule.step()
            if averaged is not None:
                averaged.update_parameters(model)
            value = accelerator.reduce(loss).item()
            if not math.isfinite(value):
                raise UnrollError(
                    f"{title}: the loss is {value} at epoch {epoch}, batch {step} of {steps}; "
                    f"lower train.lr (now {config.lr}) or set train.clip_norm"
                )
            total_loss += value * size
            progress.step(size, value)
        seconds = time.perf_counter() - begin

        probabilities = predict_together(eval_model, corpus, valid, processes)
        scores = score(probabilities, corpus.labels[corpus.spans_of(valid)])
        record = EpochRecord(
            epoch=epoch,
            loss=total_loss / spans,
            valid_log_loss=scores["log_loss"],
            valid_accuracy=scores["accuracy"],
            valid_macro_f1=scores["macro_f1"],
            lr=float(schedule.get_last_lr()[0]),
        )
        state.add(record, eval_model)
        if checkpoints is not None:
            checkpoints.save(epoch, state.content())
        progress.epoch(record.epoch, record.loss, record.valid_accuracy)
        if processes.is_main:
            on_epoch(record, spans / seconds)

    progress.close()
    model.load_state_dict(state.best_weights)
    return state.history


def hide_labels(corpus: Corpus, sequences: Ints) -> Corpus:
    """Return the corpus without the labels of the given sequences' spans."""
    labels = np.array(corpus.labels)
    labels[corpus.spans_of(sequences)] = UNLABELLED
    return replace(corpus, labels=labels)


def count_labelled(corpus: Corpus, sequences: Ints) -> int:
    """Return how many spans of the given sequences have a label."""
    return int(np.count_nonzero(corpus.labels[corpus.spans_of(sequences)] != UNLABELLED))


def shard_batch(corpus: Corpus, sequences: Ints, processes: Processes) -> tuple[Batch, BatchTotals, int]:
    """Return this process' part of a batch of sequences of one length, the size of the whole, and its labelled spans.

    A process that gets no sequence takes the first one as a part of an endless batch, so that it counts nothing, since
    all of them have to take part.
    """
    labelled = count_labelled(corpus, sequences)
    mine = processes.share(sequences)
    if not len(mine):
        return make_batch(corpus, sequences[:1]), BatchTotals(math.inf, math.inf), labelled
    return make_batch(corpus, mine), BatchTotals(labelled, len(sequences)), labelled


def predict_together(
    model: nn.Module, corpus: Corpus, sequences: Ints, processes: Processes
) -> npt.NDArray[np.float32]:
    """Return what `predict` does, each process predicting a share of the sequences, all of it on every process."""
    if processes.count == 1:
        return predict(model, corpus, sequences)
    mine = processes.share(sequences)
    parts = processes.gather(predict(model, corpus, mine) if len(mine) else None)
    owner = np.repeat(np.arange(len(sequences)) % processes.count, np.diff(corpus.span_offsets)[sequences])  # (R,)
    probabilities = np.empty((len(owner), next(part.shape[1] for part in parts if part is not None)), np.float32)
    for index, part in enumerate(parts):
        if part is not None:
            probabilities[owner == index] = part
    return probabilities


class TrainState:
    """All that a training is after an epoch, to be saved and to go on from."""

    def __init__(
        self,
        model: nn.Module,
        averaged: AveragedModel | None,
        optimizer: torch.optim.Optimizer,
        schedule: LRScheduler,
    ) -> None:
        """Watch over the parts of a training that is about to begin."""
        self.parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "schedule": schedule}
        if averaged is not None:
            self.parts["averaged"] = averaged
        self.history = History()
        self.best_weights: dict[str, Tensor] = {}

    def add(self, record: EpochRecord, eval_model: nn.Module) -> None:
        """Remember an epoch, and its weights where it is the best so far."""
        epochs = self.history.epochs
        epochs.append(record)
        if not self.best_weights or record.valid_accuracy > self.history.best.valid_accuracy:
            self.history.best_epoch = record.epoch
            self.best_weights = copy.deepcopy(eval_model.state_dict())

    def is_patience_over(self, patience: int | None) -> bool:
        """Return whether the last `patience` epochs all were worse than the best."""
        return patience is not None and len(self.history.epochs) - self.history.best_epoch >= patience

    def content(self) -> dict[str, Any]:
        """Return it as tensors, numbers and names."""
        content = {name: part.state_dict() for name, part in self.parts.items()}
        content["history"] = [asdict(record) for record in self.history.epochs]
        content["best_epoch"] = self.history.best_epoch
        content["best_weights"] = self.best_weights
        return content

    def restore(self, content: dict[str, Any]) -> None:
        """Go on from what `content` returned."""
        for name, part in self.parts.items():
            part.load_state_dict(content[name])
        self.history = History([EpochRecord(**record) for record in content["history"]], content["best_epoch"])
        self.best_weights = content["best_weights"]


def _seed_of(seed: int, epoch: int, process: int) -> int:
    return int(np.random.SeedSequence([seed, epoch, process]).generate_state(1)[0])
