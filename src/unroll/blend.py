"""Several models' probabilities as one answer, and labels that the training file already gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from unroll.errors import UnrollError
from unroll.files import read_json, write_json

Probabilities = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def find_weights(stacked: Probabilities, labels: Ints, steps: int = 200) -> Probabilities:
    """Find the mixture of models under which the labels are most likely, by expectation-maximisation.

    Args:
        stacked: out-of-fold probabilities of M models, (M, R, C).
        labels: (R,).
        steps: iterations; the likelihood is concave in the weights, so the start does not matter.

    Returns:
        Weights that are not negative and sum to 1, (M,).
    """
    right = np.clip(stacked[:, np.arange(len(labels)), labels], 1e-12, None)  # (M, R)
    weights = np.full(len(stacked), 1 / len(stacked))
    for _ in range(steps):
        shares = weights[:, None] * right  # (M, R)
        weights = (shares / shares.sum(0)).mean(1)
    return weights


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
        logits = _features(probabilities, lengths) @ self.weights.T + self.bias  # (R, C)
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


def find_calibration(probabilities: Probabilities, lengths: Ints, labels: Ints) -> Calibration | None:
    """Fit a calibration by multinomial logistic regression on out-of-fold rows.

    Args:
        probabilities: (R, C).
        lengths: tokens of each text, (R,).
        labels: (R,).

    Returns:
        The calibration; None where a class has no row, since nothing can be learned of it.
    """
    if len(np.unique(labels)) < probabilities.shape[1]:
        return None
    features = _features(probabilities, lengths)  # (R, C + 1)
    scaler = StandardScaler().fit(features)
    fitted = LogisticRegression(max_iter=300).fit(scaler.transform(features), labels)
    weights, bias = fitted.coef_, fitted.intercept_
    if len(weights) == 1:  # of two classes it gives the second one's logits alone
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    weights = weights / scaler.scale_
    return Calibration(weights, bias - weights @ scaler.mean_)


def _features(probabilities: Probabilities, lengths: Ints) -> Probabilities:
    logs = np.log(np.clip(probabilities, 1e-6, None))
    return np.concatenate([logs, np.log(np.maximum(lengths, 1))[:, None]], axis=1)


@dataclass(frozen=True)
class Blend:
    """How M models' probabilities become one answer: mixed by weights, (M,), and then calibrated."""

    weights: Probabilities
    calibration: Calibration | None

    def apply(self, stacked: Probabilities, lengths: Ints) -> Probabilities:
        """Return one answer for M models' probabilities (M, R, C) of texts of so many tokens, (R,): (R, C)."""
        mixed = mix(stacked, self.weights)
        return mixed if self.calibration is None else self.calibration.apply(mixed, lengths)


def find_blend(stacked: Probabilities, labels: Ints, lengths: Ints, *, calibrate: bool) -> Blend:
    """Find a blend on out-of-fold rows; arguments as in blend_out_of_fold."""
    weights = find_weights(stacked, labels)
    return Blend(weights, find_calibration(mix(stacked, weights), lengths, labels) if calibrate else None)


def blend_out_of_fold(
    stacked: Probabilities, labels: Ints, folds: Ints, lengths: Ints, *, calibrate: bool
) -> tuple[Blend, Probabilities]:
    """Find a blend and judge it honestly.

    Args:
        stacked: out-of-fold probabilities of M models, (M, R, C).
        labels: (R,).
        folds: which fold each row was kept back in, (R,).
        lengths: tokens of each row's text, (R,).
        calibrate: whether the mixture is calibrated.

    Returns:
        The blend found on all rows, for the test part; and the blended probabilities, (R, C), where each fold's are
        made by a blend found on the other folds alone (a nested estimate). With one fold there is nothing to find a
        blend on: the weights are equal, and nothing is calibrated.
    """
    different = np.unique(folds)
    if len(different) == 1:
        equal = Blend(np.full(len(stacked), 1 / len(stacked)), None)
        return equal, equal.apply(stacked, lengths)
    blended = np.empty(stacked.shape[1:])
    for fold in different:
        inside = folds == fold
        found = find_blend(stacked[:, ~inside], labels[~inside], lengths[~inside], calibrate=calibrate)
        blended[inside] = found.apply(stacked[:, inside], lengths[inside])
    return find_blend(stacked, labels, lengths, calibrate=calibrate), blended


def save_blend(path: Path, cells: Sequence[str], blend: Blend, *, nested: bool) -> None:
    """Write a blend of the cells as JSON; `nested` says whether its scores are by nested estimate."""
    weights = dict(zip(cells, blend.weights.tolist(), strict=True))
    found = blend.calibration
    write_json(path, {"nested": nested, "weights": weights, "calibration": found.as_content() if found else None})


def load_blend(path: Path, classes: int) -> tuple[dict[str, float], Calibration | None]:
    """Read the weight of each cell and the calibration that save_blend wrote.

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


def find_known_labels(train_texts: Sequence[str], train_labels: Ints, texts: Sequence[str]) -> Ints:
    """Look up texts, letter for letter, in the training part.

    Args:
        train_texts: (N,).
        train_labels: (N,).
        texts: (R,).

    Returns:
        The label of each text that stands in the training part with one label only, -1 for any other, (R,).
    """
    known: dict[str, int] = {}
    for text, label in zip(train_texts, train_labels.tolist(), strict=True):
        if known.setdefault(text, label) != label:
            known[text] = -1
    return np.array([known.get(text, -1) for text in texts], dtype=np.int64)
