"""The cache of trainings: where a result is kept, by the hash of all that it depends on."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache as cached
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import unroll
from unroll.core.errors import UnrollError, warn
from unroll.core.files import check_manifest, new_output, read_json, sha256_of, sha256_of_file, write_json
from unroll.models.bundle import WEIGHTS, Bundle, save_bundle
from unroll.text.corpus import Ints
from unroll.training.state import History

CODE = ("data", "text", "models", "training", "evaluation/metrics.py")  # what a fold's result depends on
LIBRARIES = ("torch", "numpy", "numba", "accelerate")
Predictions = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FoldResult:
    """A fold in the cache: `done`, once it is finished, holds a bundle, history.json, fold.json and predictions."""

    done: Path
    checkpoints: Path

    @classmethod
    def of(cls, key: str, cache: Path) -> "FoldResult":
        """Return where the result of a training is or will be, given its key."""
        return cls(cache / key / "done", cache / key / "checkpoints")

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
    def saved(self, fold: int | None, bundle: Bundle, history: History) -> Iterator[tuple[Path, dict[str, Any]]]:
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


def hash_of(*parts: Any) -> str:
    """Return the hash of what a training's result depends on: the parts, the code and the libraries."""
    code = [code_digest(Path(unroll.__file__).parent), *(version(name) for name in LIBRARIES)]
    return sha256(json.dumps([*parts, *code]).encode()).hexdigest()[:24]


@cached
def code_digest(package: Path) -> str:
    """Return the sha256 of the source that a fold's result depends on, given the folder of unroll."""
    return sha256_of(*(file for name in CODE for file in sorted((package / name).rglob("*.py")) or [package / name]))
