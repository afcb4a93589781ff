"""An ensemble: the weighted mean of several models' probabilities, calibrated."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from unroll.core.errors import UnrollError
from unroll.core.files import read_json, write_json
from unroll.text.spans import Ints

Probabilities = npt.NDArray[np.float64]


def mix(stacked: Probabilities, weights: Probabilities) -> Probabilities:
    """Return the weighted mean of M models' probabilities (M, R, C), as (R, C)."""
    mixed: Probabilities = np.tensordot(weights, stacked, axes=1)
    return mixed


@dataclass(frozen=True)
class Calibration:
    """A linear map of log-probabilities and the logarithm of the text's length to better logits.

    Without the length it is Dirichlet calibration: Kull et al., 2019, "Beyond temperature scaling: obtaining
    well-calibrated multi-class probabilities with Dirichlet calibration", https://arxiv.org/abs/1910.12656.

    Attributes:
        weights: of the C log-probabilities and of the length, (C, C + 1).
        bias: (C,).
    """

    weights: Probabilities
    bias: Probabilities

    def apply(self, probabilities: Probabilities, lengths: Ints) -> Probabilities:
        """Return better probabilities, (R, C), of texts of so many tokens, (R,)."""
        logits = calibration_features(probabilities, lengths) @ self.weights.T + self.bias  # (R, C)
        calibrated: Probabilities = softmax(logits, axis=1)
        return calibrated

    def as_content(self) -> dict[str, Any]:
        """Return what JSON can hold, for read_calibration."""
        return {"weights": self.weights.tolist(), "bias": self.bias.tolist()}


def read_calibration(content: dict[str, Any] | None, classes: int) -> Calibration | None:
    """Return what Calibration.as_content gave, None for None.

    Raises:
        ValueError: it is of another number of classes.
    """
    if content is None:
        return None
    weights, bias = np.array(content["weights"], dtype=np.float64), np.array(content["bias"], dtype=np.float64)
    if weights.shape != (classes, classes + 1) or bias.shape != (classes,):
        raise ValueError(f"expected weights of ({classes}, {classes + 1}) and a bias of ({classes},)")
    return Calibration(weights, bias)


def calibration_features(probabilities: Probabilities, lengths: Ints) -> Probabilities:
    """Return what a calibration is linear in, (R, C + 1): log-probabilities and the logarithm of the length."""
    logs = np.log(np.clip(probabilities, 1e-6, None))
    return np.concatenate([logs, np.log(np.maximum(lengths, 1))[:, None]], axis=1)


@dataclass(frozen=True)
class Ensemble:
    """How M models' probabilities become one answer: mixed by weights, (M,), and then calibrated."""

    weights: Probabilities
    calibration: Calibration | None

    def apply(self, stacked: Probabilities, lengths: Ints) -> Probabilities:
        """Return one answer for M models' probabilities (M, R, C) of texts of so many tokens, (R,): (R, C)."""
        mixed = mix(stacked, self.weights)
        return mixed if self.calibration is None else self.calibration.apply(mixed, lengths)


def save_ensemble(path: Path, cells: Sequence[str], ensemble: Ensemble, *, nested: bool) -> None:
    """Write an ensemble of the cells as JSON; `nested` says whether its scores are by nested estimate."""
    weights = dict(zip(cells, ensemble.weights.tolist(), strict=True))
    found = ensemble.calibration
    write_json(path, {"nested": nested, "weights": weights, "calibration": found.as_content() if found else None})


def load_ensemble(path: Path, classes: int) -> tuple[dict[str, float], Calibration | None]:
    """Read the weight of each cell and the calibration that save_ensemble wrote.

    Raises:
        UnrollError: the file is missing or damaged, or not of so many classes.
    """
    content, calibration = read_json(path), None
    expected = f"{path}: expected a weight for each cell, summing to 1, and a calibration or null"
    try:
        weights = {str(name): float(weight) for name, weight in content["weights"].items()}
        calibration = read_calibration(content["calibration"], classes)
    except (KeyError, TypeError, ValueError, AttributeError):
        weights = {}
    if not weights or min(weights.values()) < 0 or abs(sum(weights.values()) - 1) > 1e-6:
        raise UnrollError(f"{expected}; `dvc repro` writes it again")
    return weights, calibration
