"""The cache of trainings: what can be trained, and where its result is kept, by the hash of all it depends on."""

import shutil
from dataclasses import dataclass
from functools import cache as cached
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from unroll.core.errors import UnrollError, warn
from unroll.core.files import check_manifest, read_json, sha256_of
from unroll.text.corpus import Ints
from unroll.training.fold_data import TrainingData
from unroll.training.state import OnEpoch

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

    def run(self, data: TrainingData, cache: Path, on_epoch: OnEpoch) -> "FoldResult":
        """Train and save the result in the cache, or find it there."""

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

    def clear_checkpoints(self) -> None:
        """Delete the checkpoints of a finished training."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)


@cached
def code_digest(package: Path) -> str:
    """Return the sha256 of the source that a fold's result depends on, given the folder of unroll."""
    return sha256_of(*(file for name in CODE for file in sorted((package / name).rglob("*.py")) or [package / name]))
