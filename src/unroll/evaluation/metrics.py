"""Scores of class probabilities (R, C) against labels (R,)."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import f1_score

Probabilities = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.integer[Any]]


def score(probabilities: Probabilities, labels: Labels) -> dict[str, float]:
    """Return accuracy, macro-F1 and log loss.

    A class with neither a label nor a prediction has an F1 of 0; log loss is in nats, of probabilities clipped at
    1e-15.
    """
    classes, predicted = np.arange(probabilities.shape[1]), probabilities.argmax(1)
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return {
        "accuracy": float((predicted == labels).mean()),
        "macro_f1": float(f1_score(labels, predicted, labels=classes, average="macro", zero_division=0)),
        "log_loss": float(-np.log(np.clip(of_label, 1e-15, None)).mean()),
    }


def group_accuracy(probabilities: Probabilities, labels: Labels, groups: npt.NDArray[Any]) -> float:
    """Return the mean of the groups' accuracies, which counts each group once; groups (R,) of any type."""
    correct = pd.Series(probabilities.argmax(1) == labels)
    return float(correct.groupby(groups).mean().mean())
