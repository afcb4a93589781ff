"""One fold of a cross-validation, or all its folds: train, predict, and keep the result in a cache."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from unroll.core.files import read_json, sha256_of_array
from unroll.core.settings import TaskConfig
from unroll.data.competition import Competition
from unroll.data.rows import predictions_table
from unroll.models.bundle import Bundle
from unroll.models.span_classifier import SpanClassifier
from unroll.text.corpus import Corpus
from unroll.training.cache import FoldResult, Predictions, hash_of
from unroll.training.distributed import join_processes, predict_sharded
from unroll.training.fit import fit, score_spans
from unroll.training.fold_data import FoldData, TrainingData, prepare_fold, set_pretrained, set_vectors
from unroll.training.state import History, OnEpoch, derive_seed


@dataclass(frozen=True)
class Training:
    """One cell trained with one fold held out, or with none.

    With none, `refit` is the share of the planned epochs after which training stops, since no rows are left to tell
    which epoch is the best.
    """

    task: Competition  # what is predicted
    cell: str  # "RNN", "LSTM" or "GRU"
    fold: int  # the one held out; without one, the number of the model, from 0 on
    config: TaskConfig  # the task's settings
    seed: int  # from which every training derives its own
    refit: float | None = None  # None with a fold held out

    def __str__(self) -> str:
        """Return its name in messages."""
        return f"{self.task.name} {self.cell} {'fold' if self.refit is None else 'refit'} {self.fold}"

    def describe(self, summary: dict[str, Any]) -> str:
        """Return the best epoch and its score."""
        if self.refit is not None:
            return f"{summary['best_epoch']} epochs on all rows"
        return (
            f"best epoch {summary['best_epoch']}, {self.task.metric.replace('_', '-')} {summary[self.task.metric]:.4f}"
        )

    def held_out(self, corpus: Corpus) -> npt.NDArray[np.bool_]:
        """Return for each sequence whether it is in the fold held out, (S,)."""
        return corpus.folds == self.fold if self.refit is None else np.zeros(len(corpus.folds), dtype=np.bool_)

    def key(self, data: TrainingData) -> str:
        """Return the hash of what the result depends on: settings, corpus, own pretrained model, code and libraries."""
        task = self.task
        names = [task.name, task.kind, task.outputs, task.metric, task.positive]
        of_fold = [self.cell, self.fold, self.seed, self.refit]
        sections = self.config.model_dump(include={"text", "model", "train"})
        of_data = [data.digest, sha256_of_array(*data.pretrained.get(self.cell, {}).values())]
        return hash_of(*names, *of_fold, sections, *of_data)

    def train(self, data: TrainingData, result: FoldResult, on_epoch: OnEpoch) -> None:
        """Train with one fold held out and, in the main process, save the result; see parallel.train_once."""
        fold, task = prepare_fold(data, self.held_out(data.corpus), self.config, self.cell), self.task
        seed = derive_seed(self.seed, self.fold, *(() if self.refit is None else (1,)))
        torch.manual_seed(seed)
        model = SpanClassifier(self.cell, self.config.model, len(fold.vocabulary), len(task.outputs), task.kind)
        if task.kind == "number":
            known = fold.corpus.targets[fold.corpus.spans_of(fold.train)]  # (R, K)
            deviation = np.nanstd(known, axis=0)
            model.offset = torch.from_numpy(np.nanmean(known, axis=0))
            model.scale = torch.from_numpy(np.where(deviation > 0, deviation, 1).astype(np.float32))
        if fold.vectors is not None:
            set_vectors(model, fold.vectors, f"{task.name}.model.embedding")
        if fold.pretrained:
            set_pretrained(model, fold.pretrained)
        history = fit(
            model, fold.corpus, fold.train, fold.valid, self.config.train, task, seed=seed,
            title=str(self), on_epoch=on_epoch, checkpoint=result.checkpoints, share=self.refit or 1.0,
            is_pretrained=bool(fold.pretrained),
        )  # fmt: skip
        parts, processes = {"valid": fold.valid, "test": fold.test}, join_processes()
        predictions = {name: predict_sharded(model, fold.corpus, part, processes) for name, part in parts.items()}
        if processes.is_main:
            save_fold(result, self, fold, model, history, predictions)


def save_fold(
    result: FoldResult, training: Training, fold: FoldData, model: SpanClassifier, history: History,
    predictions: dict[str, Predictions],
) -> None:  # fmt: skip
    """Write the finished fold and delete its checkpoints."""
    task, config, corpus = training.task, training.config, fold.corpus
    names = (task.name, training.cell, task.kind, task.outputs)
    bundle = Bundle(*names, config.text, config.model, fold.vocabulary, model.eval())
    with result.saved(training.fold, bundle, history) as (scratch, summary):
        summary |= score_spans(task, corpus, fold.valid, predictions["valid"])
        for name, sequences in (("valid", fold.valid), ("test", fold.test)):
            row_ids = corpus.row_ids[corpus.spans_of(sequences)]
            np.savez(scratch / f"{name}.npz", row_ids=row_ids, predictions=predictions[name])


def collect_folds(results: Sequence[FoldResult], part: str, task: Competition) -> pd.DataFrame:
    """Return one table of the folds' predictions: row_id, for "valid" fold, and the outputs; sorted by row_id.

    "valid" stacks the rows that each fold held out; "test" averages the folds.
    """
    row_ids, predictions = zip(*(result.predictions(part) for result in results), strict=True)
    keys = {"row_id": row_ids[0]}
    if part == "valid":
        folds = [result.summary()["fold"] for result in results]
        keys = {"row_id": np.concatenate(row_ids), "fold": np.repeat(folds, [len(ids) for ids in row_ids])}
    values = np.concatenate(predictions) if part == "valid" else np.mean(predictions, axis=0)
    table = pd.DataFrame(keys).join(predictions_table(values, task))
    return table.sort_values("row_id", ignore_index=True)


def refits_of(results: Sequence[tuple[Training, FoldResult]]) -> list[Training]:
    """Return the trainings of a cell on all rows, given those of its folds.

    They stop at the mean of the folds' best epochs, as shares of all epochs: with another number of rows the same share
    of the schedule has another number of steps.
    """
    shares = []
    for _, result in results:
        history = read_json(result.done / "history.json")
        shares.append(history["best_epoch"] / history["planned"])
    first, share = results[0][0], round(float(np.mean(shares)), 6)
    return [replace(first, fold=number, refit=share) for number in range(first.config.split.refit)]
