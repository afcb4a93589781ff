"""The cache of trainings: what can be trained, and where its result is kept, by the hash of all it depends on."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache as cached
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

import unroll
from unroll.core.errors import UnrollError, warn
from unroll.core.files import check_manifest, new_output, read_json, sha256_of, sha256_of_file, write_json
from unroll.models.bundle import WEIGHTS, Bundle, save_bundle
from unroll.text.corpus import Ints
from unroll.training.distributed import join_processes
from unroll.training.fold_data import TrainingData
from unroll.training.state import History, OnEpoch

CODE = ("data", "text", "models", "training", "evaluation/metrics.py")  # what a fold's result depends on
LIBRARIES = ("torch", "numpy", "accelerate")
Predictions = npt.NDArray[np.float32]


class Trainable(Protocol):
    """A training that can run anywhere, and whose result the cache keeps: of a fold, or of a pretrained model."""

    @property
    def cell(self) -> str:
        """Return "RNN", "LSTM" or "GRU"."""

    @property
    def fold(self) -> int:
        """Return the number of the fold held out, or of the model."""

    @property
    def refit(self) -> float | None:
        """Return None if rows are held out, or else see Training."""

    def key(self, data: TrainingData) -> str:
        """Return the hash of all that the result depends on."""

    def train(self, data: TrainingData, result: "FoldResult", on_epoch: OnEpoch) -> None:
        """Train and, in the main process, save the result."""

    def describe(self, summary: dict[str, Any]) -> str:
        """Return what a line of output says of the result."""


@dataclass(frozen=True)
class FoldResult:
    """A fold in the cache: `done`, once it is finished, holds a bundle, history.json, fold.json and predictions."""

    done: Path
    checkpoints: Path

    @classmethod
    def of(cls, training: Trainable, data: TrainingData, cache: Path) -> "FoldResult":
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

    @contextmanager
    def saved(self, fold: int, bundle: Bundle, history: History) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Write a finished training, and yield its folder and its summary for more; then delete its checkpoints."""
        with new_output(self.done) as scratch:
            save_bundle(scratch, bundle)
            numbers = {"best_epoch": history.best_epoch, "planned": history.planned}
            write_json(scratch / "history.json", {**numbers, "epochs": [record.flat() for record in history.epochs]})
            digest = sha256_of_file(scratch / WEIGHTS)
            summary = {"fold": fold, "digest": digest, "best_epoch": history.best_epoch}
            yield scratch, summary
            write_json(scratch / "fold.json", summary)
        shutil.rmtree(self.checkpoints, ignore_errors=True)


def train_once(
    training: Trainable, data: TrainingData, cache: Path, on_epoch: OnEpoch = lambda record, speed: None
) -> FoldResult:
    """Train and save the result in the cache, or find it there.

    Under torchrun all processes call this together; the main one alone uses the cache, on_epoch (see fit) and the
    result.
    """
    processes = join_processes()
    if len(set(processes.gather(training.key(data)))) > 1:
        raise UnrollError(
            "the processes differ in settings, corpus, code or libraries; use the same commit, params.yaml, data/corpus and "
            "requirements on every machine"
        )
    result = FoldResult.of(training, data, cache)
    if not processes.from_main(processes.is_main and result.is_finished()):
        training.train(data, result, on_epoch)
    return result


def hash_of(*parts: Any) -> str:
    """Return the hash of what a training's result depends on: the parts, the code and the libraries."""
    code = [code_digest(Path(unroll.__file__).parent), *(version(name) for name in LIBRARIES)]
    return sha256(json.dumps([*parts, *code]).encode()).hexdigest()[:24]


@cached
def code_digest(package: Path) -> str:
    """Return the sha256 of the source that a fold's result depends on, given the folder of unroll."""
    return sha256_of(*(file for name in CODE for file in sorted((package / name).rglob("*.py")) or [package / name]))
