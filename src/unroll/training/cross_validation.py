"""One fold of a cross-validation: vocabulary, model and predictions, kept until something they come from changes.

A room of its own between train.py and the train stage: the stage only says which folds to run.
"""

import inspect
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from unroll.core.errors import UnrollError, warn
from unroll.core.files import (
    MANIFEST,
    check_manifest,
    new_folder,
    read_json,
    sha256_of_file,
    write_json,
    write_manifest,
)
from unroll.core.settings import TaskConfig
from unroll.data.competition import Competition
from unroll.evaluation.metrics import score
from unroll.models.bundle import Bundle, load_bundle, save_bundle
from unroll.models.span_classifier import SpanClassifier
from unroll.text.corpus import TEST_FOLD, Corpus, load_corpus
from unroll.text.vocabulary import Vocabulary
from unroll.training.checkpoint import Checkpoints
from unroll.training.distributed import join_processes
from unroll.training.fit import fit, predict_together
from unroll.training.history import EpochRecord, History, OnEpoch, ignore_epoch

CODE_WITHOUT_EFFECT = (
    "unroll.core.settings",
    "unroll.tracking",
    "unroll.core.paths",
    "unroll.training.progress",
    "unroll.training.parallel",
)


@dataclass(frozen=True)
class TrainingData:
    """What every fold of a training reads.

    Attributes:
        corpus: the arrays of both parts.
        digest: sha256 that stands for the corpus' files.
        vocabulary: of the whole training part.
        vectors: pretrained vectors, (V, size), NaN rows for words without one; None where none are wanted.
    """

    corpus: Corpus
    digest: str
    vocabulary: Vocabulary
    vectors: npt.NDArray[np.float32] | None


def load_training_data(folder: Path) -> TrainingData:
    """Read what the tokenize stage wrote into a folder.

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
class FoldResult:
    """A finished fold: its folder holds the bundle, the history and the probabilities."""

    fold: int
    folder: Path

    def is_there(self) -> bool:
        """Return whether it is there, whole or damaged."""
        return self.folder.is_dir()

    def discard_damaged(self) -> None:
        """Remove it where it is not as it was written, and say so on standard error."""
        try:
            if self.is_there():
                check_manifest(self.folder, fix="the fold is trained again")
        except UnrollError as error:
            warn(str(error))
            shutil.rmtree(self.folder)

    @property
    def history(self) -> History:
        """Return the epochs of its training."""
        content = read_json(self.folder / "history.json")
        return History([EpochRecord(**record) for record in content["epochs"]], content["best_epoch"])

    @property
    def bundle(self) -> Bundle:
        """Return its model."""
        return load_bundle(self.folder)

    def probabilities(self, part: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return row ids, (R,), and class probabilities, (R, C), of the rows held out ("valid") or of "test"."""
        with np.load(self.folder / f"{part}.npz", allow_pickle=False) as content:
            return content["row_ids"], content["probabilities"]


def train_fold(
    task: Competition,
    cell: str,
    fold: int,
    data: TrainingData,
    config: TaskConfig,
    *,
    seed: int,
    cache: Path,
    on_epoch: OnEpoch = ignore_epoch,
) -> FoldResult:
    """Train one cell with one fold held out, or take the finished fold from the cache.

    A token that the fold's own training sequences do not hold often enough, and that has no pretrained vector, is left
    out of the fold's vocabulary, so that it is read as unknown in the rows held out, as it is in the test part.

    Args:
        task: names the labels.
        cell: "RNN", "LSTM" or "GRU".
        fold: the one held out.
        data: what to train on.
        config: the task's sections.
        seed: of the whole training; every fold derives its own from it.
        cache: folder of finished folds and checkpoints, each under the hash of all that it comes from.
        on_epoch: as in train.fit; a finished fold repeats its epochs.

    Under torchrun all processes call this together; the main process alone uses the cache, writes and calls on_epoch,
    and alone can read the result.
    """
    processes = join_processes()
    key = fold_key(task, cell, fold, data, config, seed)
    processes.check_equal(key, "settings, corpus, code or libraries")
    folder = cache / key
    result = FoldResult(fold, folder / "done")
    if processes.is_main:
        result.discard_damaged()
    if processes.from_main(result.is_there()):
        for record in result.history.epochs if processes.is_main else ():
            on_epoch(record, None)
        return result
    corpus = data.corpus
    train = np.flatnonzero((corpus.folds != fold) & (corpus.folds != TEST_FOLD))
    valid = np.flatnonzero(corpus.folds == fold)
    test = np.flatnonzero(corpus.folds == TEST_FOLD)
    counts = np.bincount(corpus.tokens_of(train), minlength=len(data.vocabulary))
    known = counts >= config.text.min_count
    if data.vectors is not None:
        known |= np.isfinite(data.vectors).all(1)
    vocabulary, new_ids = data.vocabulary.restrict(known)
    corpus = replace(corpus, tokens=new_ids[corpus.tokens])

    fold_seed = int(np.random.SeedSequence([seed, fold]).generate_state(1)[0])
    torch.manual_seed(fold_seed)
    model = SpanClassifier(cell, config.model, len(vocabulary), len(task.labels))
    if data.vectors is not None:
        known[0] = True
        set_vectors(model, data.vectors[known], f"{task.name}.model.embedding")
    history = fit(
        model,
        corpus,
        train,
        valid,
        config.train,
        seed=fold_seed,
        unlabelled=test,
        title=f"{task.name} {cell} fold {fold}",
        on_epoch=on_epoch,
        checkpoint=folder / "checkpoints",
    )
    predictions = {
        part: predict_together(model, corpus, sequences, processes)
        if len(sequences)
        else np.empty((0, len(task.labels)), np.float32)
        for part, sequences in (("valid", valid), ("test", test))
    }
    if not processes.is_main:
        return result

    with new_folder(result.folder) as scratch:
        bundle = Bundle(
            task.name, cell, task.labels, task.label_names, config.text, config.model, vocabulary, model.eval()
        )
        save_bundle(scratch, bundle)
        write_json(scratch / "history.json", asdict(history))
        for part, sequences in (("valid", valid), ("test", test)):
            row_ids = corpus.row_ids[corpus.spans_of(sequences)]
            np.savez(scratch / f"{part}.npz", row_ids=row_ids, probabilities=predictions[part])
        write_manifest(scratch)
    Checkpoints(folder / "checkpoints").clear()
    return result


def is_finished(
    task: Competition, cell: str, fold: int, data: TrainingData, config: TaskConfig, *, seed: int, cache: Path
) -> bool:
    """Return whether `train_fold`, given the same arguments, takes the fold from the cache."""
    result = FoldResult(fold, cache / fold_key(task, cell, fold, data, config, seed) / "done")
    result.discard_damaged()
    return result.is_there()


def set_vectors(model: SpanClassifier, vectors: npt.NDArray[np.float32], key: str) -> None:
    """Start the embedding at pretrained vectors, (V, size), where there are some.

    Raises:
        UnrollError: the model has no embedding of that size; the message names the key.
    """
    size = model.embedding.embedding_dim if model.embedding is not None else None
    if model.embedding is None or size != vectors.shape[1]:
        raise UnrollError(f"params.yaml: {key}: found {size}, but the vectors have {vectors.shape[1]} numbers a word")
    rows = torch.from_numpy(np.isfinite(vectors).all(1))
    with torch.no_grad():
        model.embedding.weight[rows] = torch.from_numpy(vectors)[rows]


def fold_key(task: Competition, cell: str, fold: int, data: TrainingData, config: TaskConfig, seed: int) -> str:
    """Return the hash of all that a fold's result comes from: settings, corpus, code and library versions."""
    sections = config.model_dump(include={"text", "model", "train"})
    libraries = {name: version(name) for name in ("torch", "numpy", "accelerate")}
    content = [task.name, task.labels, cell, fold, seed, sections, data.digest, _code_digest(), libraries]
    return sha256(json.dumps(content).encode()).hexdigest()[:24]


def _code_digest() -> str:
    """Return the sha256 of the source of every module of the house that is loaded here and can change a result."""
    names = (name for name in sys.modules if name.startswith("unroll.") and not name.startswith("unroll.stages"))
    sources = [
        inspect.getsource(sys.modules[name]) for name in sorted(names) if not name.startswith(CODE_WITHOUT_EFFECT)
    ]
    return sha256("\0".join(sources).encode()).hexdigest()


def collect_folds(results: Sequence[FoldResult], part: str, labels: Sequence[str]) -> pd.DataFrame:
    """Put the folds' probabilities into one table.

    Args:
        results: the finished folds.
        part: "valid" stacks the rows that each fold held out; "test" takes the mean of all folds for each row.
        labels: of the C classes.

    Returns:
        Columns row_id, then for "valid" fold, then one a label; sorted by row_id.
    """
    tables = []
    for result in results:
        row_ids, probabilities = result.probabilities(part)
        table = pd.DataFrame(probabilities, columns=list(labels))
        table.insert(0, "row_id", row_ids)
        if part == "valid":
            table.insert(1, "fold", result.fold)
        tables.append(table.sort_values("row_id", ignore_index=True))
    if part == "valid":
        return pd.concat(tables).sort_values("row_id", ignore_index=True)
    mean = np.mean([table[list(labels)].to_numpy() for table in tables], axis=0)
    return tables[0].assign(**{label: mean[:, column] for column, label in enumerate(labels)})


def score_folds(results: Sequence[FoldResult], truth: pd.Series) -> list[dict[str, Any]]:
    """Return each fold's best epoch and its scores on the rows that it held out, given labels by row id."""
    scores = []
    for result in results:
        row_ids, probabilities = result.probabilities("valid")
        best = result.history.best_epoch
        scores.append({"fold": result.fold, "best_epoch": best, **score(probabilities, truth[row_ids].to_numpy())})
    return scores
