"""One fold of a cross-validation, or all its folds: prepare data, train, predict, and keep the result in a cache."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache as cached
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

import unroll
from unroll.core.errors import UnrollError, warn
from unroll.core.files import (
    MANIFEST,
    check_manifest,
    new_folder,
    read_json,
    sha256_of,
    sha256_of_file,
    write_json,
    write_manifest,
)
from unroll.core.settings import TaskConfig
from unroll.data.competition import Competition
from unroll.data.rows import predictions_table
from unroll.models.bundle import WEIGHTS, Bundle, save_bundle
from unroll.models.span_classifier import SpanClassifier
from unroll.text.corpus import TEST_FOLD, Corpus, Ints, load_corpus
from unroll.text.vocabulary import Vocabulary
from unroll.training.distributed import join_processes, predict_sharded
from unroll.training.fit import fit, score_spans
from unroll.training.state import History, OnEpoch, derive_seed

CODE = ("data", "text", "models", "training", "evaluation/metrics.py")  # what a fold's result depends on
LIBRARIES = ("torch", "numpy", "accelerate")
Predictions = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TrainingData:
    """What every fold reads.

    Attributes:
        corpus: the arrays of both parts.
        digest: sha256 that stands for the corpus' files.
        vocabulary: of the whole training part.
        vectors: pretrained vectors, (V, size), NaN rows for tokens without one; None for a random embedding.
    """

    corpus: Corpus
    digest: str
    vocabulary: Vocabulary
    vectors: npt.NDArray[np.float32] | None


def load_training_data(folder: Path) -> TrainingData:
    """Read what the tokenize stage wrote.

    Raises:
        UnrollError: a file is missing or damaged.
    """
    check_manifest(folder, fix=f"delete {folder} and run `dvc repro`, which makes it again")
    vectors = folder / "vectors.npy"
    return TrainingData(
        corpus=load_corpus(folder),
        digest=sha256_of_file(folder / MANIFEST),
        vocabulary=Vocabulary(tuple(read_json(folder / "vocabulary.json"))),
        vectors=np.load(vectors, allow_pickle=False) if vectors.is_file() else None,
    )


@dataclass(frozen=True)
class Training:
    """One cell trained with one fold held out, or with none.

    Attributes:
        task: what is predicted.
        cell: "RNN", "LSTM" or "GRU".
        fold: the one held out; without one, the number of the model, from 0 on.
        config: the task's settings.
        seed: from which every training derives its own.
        refit: None with a fold held out; otherwise the share of the planned epochs after which training stops, since no
            rows are left to tell which epoch is the best.
    """

    task: Competition
    cell: str
    fold: int
    config: TaskConfig
    seed: int
    refit: float | None = None

    def __str__(self) -> str:
        """Return its name in messages."""
        return f"{self.task.name} {self.cell} {'fold' if self.refit is None else 'refit'} {self.fold}"

    def held_out(self, corpus: Corpus) -> npt.NDArray[np.bool_]:
        """Return for each sequence whether it is in the fold held out, (S,)."""
        return corpus.folds == self.fold if self.refit is None else np.zeros(len(corpus.folds), dtype=np.bool_)

    def key(self, data: TrainingData) -> str:
        """Return the hash of all that the result depends on: settings, corpus, code and library versions."""
        task = self.task
        names = [task.name, task.kind, task.outputs, task.metric, task.positive]
        of_fold = [self.cell, self.fold, self.seed, self.refit]
        sections = self.config.model_dump(include={"text", "model", "train"})
        code = [code_digest(Path(unroll.__file__).parent), *(version(name) for name in LIBRARIES)]
        return sha256(json.dumps([*names, *of_fold, sections, data.digest, *code]).encode()).hexdigest()[:24]


@cached
def code_digest(package: Path) -> str:
    """Return the sha256 of the source that a fold's result depends on, given the folder of unroll."""
    return sha256_of(*(file for name in CODE for file in sorted((package / name).rglob("*.py")) or [package / name]))


@dataclass(frozen=True)
class FoldResult:
    """A fold in the cache: `done`, once it is finished, holds a bundle, history.json, fold.json and predictions."""

    done: Path
    checkpoints: Path

    @classmethod
    def of(cls, training: Training, data: TrainingData, cache: Path) -> "FoldResult":
        """Return where the result of a training is or will be."""
        folder = cache / training.key(data)
        return cls(folder / "done", folder / "checkpoints")

    def is_finished(self) -> bool:
        """Return whether the fold is finished; a damaged one is deleted with a warning."""
        try:
            if self.done.is_dir():
                check_manifest(self.done, fix="the fold is trained again")
        except UnrollError as error:
            warn(str(error))
            shutil.rmtree(self.done)
        return self.done.is_dir()

    def summary(self) -> dict[str, Any]:
        """Return fold, digest (sha256 of the weights), best_epoch and the scores on the rows held out."""
        return dict(read_json(self.done / "fold.json"))

    def predictions(self, part: str) -> tuple[Ints, Predictions]:
        """Return row ids, (R,), and predictions, (R, P), of the rows held out ("valid") or of "test"."""
        with np.load(self.done / f"{part}.npz", allow_pickle=False) as content:
            return content["row_ids"], content["predictions"]


@dataclass(frozen=True)
class FoldData:
    """The corpus in the fold's own vocabulary, and the numbers of the sequences of each part."""

    corpus: Corpus
    vocabulary: Vocabulary
    vectors: npt.NDArray[np.float32] | None
    train: Ints
    valid: Ints
    test: Ints


def train_fold(
    training: Training, data: TrainingData, cache: Path, on_epoch: OnEpoch = lambda record, speed: None
) -> FoldResult:
    """Train with one fold held out and save the result in the cache, or find it there.

    Under torchrun all processes call this together; the main one alone uses the cache, on_epoch (see fit) and the
    result.
    """
    processes = join_processes()
    if len(set(processes.gather(training.key(data)))) > 1:
        raise UnrollError("the processes differ in settings, corpus, code or libraries; give every machine the same")
    result = FoldResult.of(training, data, cache)
    if processes.from_main(processes.is_main and result.is_finished()):
        return result
    fold = prepare_fold(training, data)
    seed = derive_seed(training.seed, training.fold, *(() if training.refit is None else (1,)))
    torch.manual_seed(seed)
    task, size = training.task, len(fold.vocabulary)
    model = SpanClassifier(training.cell, training.config.model, size, len(task.outputs), task.kind)
    if task.kind == "number":
        known = fold.corpus.targets[fold.corpus.spans_of(fold.train)]  # (R, K)
        deviation = np.nanstd(known, axis=0)
        model.offset = torch.from_numpy(np.nanmean(known, axis=0))
        model.scale = torch.from_numpy(np.where(deviation > 0, deviation, 1).astype(np.float32))
    if fold.vectors is not None:
        set_vectors(model, fold.vectors, f"{task.name}.model.embedding")
    history = fit(
        model, fold.corpus, fold.train, fold.valid, training.config.train, task, seed=seed,
        title=str(training), on_epoch=on_epoch, checkpoint=result.checkpoints, share=training.refit or 1.0,
    )  # fmt: skip
    parts = {"valid": fold.valid, "test": fold.test}
    predictions = {name: predict_sharded(model, fold.corpus, part, processes) for name, part in parts.items()}
    if processes.is_main:
        save_fold(result, training, fold, model, history, predictions)
    return result


def prepare_fold(training: Training, data: TrainingData) -> FoldData:
    """Split the corpus and restrict the vocabulary to the tokens that the fold may know.

    These occur in the fold's training sequences at least text.min_count times, or have a pretrained vector. Others are
    read as unknown in the rows held out, as they are in the test part. A language model reads the test part along; its
    labels, where they are known, are hidden.
    """
    corpus = data.corpus
    test, held_out = np.flatnonzero(corpus.folds == TEST_FOLD), training.held_out(corpus)
    train = np.flatnonzero(~held_out & (corpus.folds != TEST_FOLD))
    counts = np.bincount(corpus.tokens_of(train), minlength=len(data.vocabulary))
    known = counts >= training.config.text.min_count  # (V,)
    if data.vectors is not None:
        known |= np.isfinite(data.vectors).all(1)
    vocabulary, new_ids = data.vocabulary.restrict(known)
    known[0] = True  # the unknown token
    targets = np.array(corpus.targets)
    targets[corpus.spans_of(test)] = np.nan
    return FoldData(
        corpus=replace(corpus, tokens=new_ids[corpus.tokens], targets=targets),
        vocabulary=vocabulary,
        vectors=None if data.vectors is None else data.vectors[known],
        train=np.concatenate([train, test]) if training.config.train.language_model else train,
        valid=np.flatnonzero(held_out),
        test=test,
    )


def set_vectors(model: SpanClassifier, vectors: npt.NDArray[np.float32], key: str) -> None:
    """Copy pretrained vectors, (V, size), into the embedding; rows of NaN stay random.

    Raises:
        UnrollError: the embedding has another size; the message names the key.
    """
    size = model.embedding.embedding_dim if model.embedding is not None else None
    if model.embedding is None or size != vectors.shape[1]:
        raise UnrollError(f"params.yaml: {key}: found {size}, but the vectors have {vectors.shape[1]} numbers a word")
    rows = torch.from_numpy(np.isfinite(vectors).all(1))
    with torch.no_grad():
        model.embedding.weight[rows] = torch.from_numpy(vectors)[rows]


def save_fold(
    result: FoldResult, training: Training, fold: FoldData, model: SpanClassifier, history: History,
    predictions: dict[str, Predictions],
) -> None:  # fmt: skip
    """Write the finished fold and delete its checkpoints."""
    task, config, corpus = training.task, training.config, fold.corpus
    with new_folder(result.done) as scratch:
        names = (task.name, training.cell, task.kind, task.outputs)
        save_bundle(scratch, Bundle(*names, config.text, config.model, fold.vocabulary, model.eval()))
        epochs = [record.flat() for record in history.epochs]
        write_json(
            scratch / "history.json", {"best_epoch": history.best_epoch, "planned": history.planned, "epochs": epochs}
        )
        scores = score_spans(task, corpus, fold.valid, predictions["valid"])
        digest = sha256_of_file(scratch / WEIGHTS)
        summary = {"fold": training.fold, "digest": digest, "best_epoch": history.best_epoch, **scores}
        write_json(scratch / "fold.json", summary)
        for name, sequences in (("valid", fold.valid), ("test", fold.test)):
            row_ids = corpus.row_ids[corpus.spans_of(sequences)]
            np.savez(scratch / f"{name}.npz", row_ids=row_ids, predictions=predictions[name])
        write_manifest(scratch)
    shutil.rmtree(result.checkpoints, ignore_errors=True)


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
