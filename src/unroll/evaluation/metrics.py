"""Scores as pure functions on arrays."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import metrics as sklearn_metrics

Probabilities = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.integer[Any]]


def accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """Return the share of rows whose most probable class is right; probabilities (R, C), labels (R,)."""
    return float((probabilities.argmax(1) == labels).mean())


def group_accuracy(probabilities: Probabilities, labels: Labels, groups: npt.NDArray[Any]) -> float:
    """Return the accuracy when each group counts once, however many rows it has; groups (R,) of any values."""
    numbers = np.unique(groups, return_inverse=True)[1]
    right = np.bincount(numbers, probabilities.argmax(1) == labels)
    return float((right / np.bincount(numbers)).mean())


def macro_f1(probabilities: Probabilities, labels: Labels) -> float:
    """Return the F1 score of each class, averaged with equal weight; a class never predicted nor found counts 0."""
    classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(1)
    return float(sklearn_metrics.f1_score(labels, predicted, labels=classes, average="macro", zero_division=0))


def log_loss(probabilities: Probabilities, labels: Labels) -> float:
    """Return the mean negative logarithm of the right class's probability, in nats."""
    right = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(right, 1e-15, None)).mean())


def confusion(probabilities: Probabilities, labels: Labels) -> npt.NDArray[np.int64]:
    """Return how often each class (row) was read as each class (column), (C, C)."""
    classes = np.arange(probabilities.shape[1])
    return np.asarray(sklearn_metrics.confusion_matrix(labels, probabilities.argmax(1), labels=classes))


def score(probabilities: Probabilities, labels: Labels) -> dict[str, float]:
    """Return accuracy, macro-F1 and log loss."""
    return {
        "accuracy": accuracy(probabilities, labels),
        "macro_f1": macro_f1(probabilities, labels),
        "log_loss": log_loss(probabilities, labels),
    }
