"""An ensemble: the weighted mean of several models' predictions, calibrated and decided."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from unroll.core.errors import UnrollError
from unroll.core.files import read_json, write_json
from unroll.data.competition import Competition
from unroll.models.decisions import Decision
from unroll.text.corpus import Ints

Probabilities = npt.NDArray[np.float64]


def mix(stacked: Probabilities, weights: Probabilities) -> Probabilities:
    """Return the weighted mean of M models' predictions (M, R, P), as (R, P)."""
    mixed: Probabilities = np.tensordot(weights, stacked, axes=1)
    return mixed


def calibration_features(probabilities: Probabilities, lengths: Ints) -> Probabilities:
    """Return what a calibration reads: log-probabilities (R, C), and the log of the lengths (R,), as (R, C + 1)."""
    logs = np.log(np.clip(probabilities, 1e-6, None))
    return np.concatenate([logs, np.log(np.maximum(lengths, 1))[:, None]], axis=1)


@dataclass(frozen=True)
class Calibration:
    """A linear map from log-probabilities, and the logarithm of the text's length, to corrected logits.

    Without the length it is Dirichlet calibration: Kull et al., 2019, "Beyond temperature scaling: obtaining
    well-calibrated multi-class probabilities with Dirichlet calibration", https://arxiv.org/abs/1910.12656.
    """

    weights: Probabilities  # of the C log-probabilities and of the length, (C, C + 1)
    bias: Probabilities  # (C,)

    def apply(self, probabilities: Probabilities, lengths: Ints) -> Probabilities:
        """Return calibrated probabilities, (R, C), of texts with the given numbers of tokens, (R,)."""
        logits = calibration_features(probabilities, lengths) @ self.weights.T + self.bias  # (R, C)
        calibrated: Probabilities = softmax(logits, axis=1)
        return calibrated


def read_calibration(content: dict[str, Any] | None, classes: int) -> Calibration | None:
    """Rebuild a calibration as `save_ensemble` writes it; None stays None.

    Raises:
        ValueError: it has another number of classes.
    """
    if content is None:
        return None
    weights, bias = np.array(content["weights"], dtype=np.float64), np.array(content["bias"], dtype=np.float64)
    if weights.shape != (classes, classes + 1) or bias.shape != (classes,):
        raise ValueError(f"expected weights of ({classes}, {classes + 1}) and a bias of ({classes},)")
    return Calibration(weights, bias)


@dataclass(frozen=True)
class Ensemble:
    """How the predictions of M models are combined: mixed by weights, (M,), then calibrated, if they are classes'."""

    weights: Probabilities
    calibration: Calibration | None = None

    def apply(self, stacked: Probabilities, lengths: Ints) -> Probabilities:
        """Combine M models' predictions, (M, R, P), of texts with the given numbers of tokens, (R,), to (R, P)."""
        mixed = mix(stacked, self.weights)
        return mixed if self.calibration is None else self.calibration.apply(mixed, lengths)


def save_ensemble(path: Path, cells: Sequence[str], ensemble: Ensemble, decision: Decision, *, nested: bool) -> None:
    """Write an ensemble of the cells as JSON; `nested` tells whether its scores are nested estimates."""
    weights = dict(zip(cells, ensemble.weights.tolist(), strict=True))
    found = ensemble.calibration
    calibration = found and {"weights": found.weights.tolist(), "bias": found.bias.tolist()}
    content = {"nested": nested, "weights": weights, "calibration": calibration}
    write_json(path, {**content, "decision": asdict(decision)})


def load_ensemble(path: Path, task: Competition) -> tuple[dict[str, float], Calibration | None, Decision]:
    """Read the weight of each cell, the calibration and the decision that save_ensemble wrote.

    Raises:
        UnrollError: the file is missing or damaged, or is not for the task's outputs.
    """
    content = read_json(path)
    try:
        weights = {str(name): float(weight) for name, weight in content["weights"].items()}
        calibration = read_calibration(content["calibration"], len(task.outputs))
        decision = Decision.of_content(content["decision"], task)
        if min(weights.values()) < 0 or abs(sum(weights.values()) - 1) > 1e-6:
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError):
        expected = "expected a weight for each cell, summing to 1, a calibration or null, and a decision"
        raise UnrollError(f"{path}: {expected}; `dvc repro` writes it again") from None
    return weights, calibration, decision
