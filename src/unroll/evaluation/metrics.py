"""Scores of predictions (R, P) against the truth (R, K), by the names of `unroll.data.competition.METRICS`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from sklearn import metrics as sk

from unroll.data.competition import OF_PREDICTIONS, Competition
from unroll.models.decisions import Decision, Floats

Function = Callable[[Competition, Floats, Floats], float]

SMALLER_IS_BETTER = ("log_loss", "rmse", "mae", "mcrmse")
USUAL = {  # reported beside the metric of the competition
    "classes": ("accuracy", "macro_f1", "log_loss"),
    "multilabel": ("auc", "macro_f1", "log_loss"),
    "ordinal": ("quadratic_kappa", "accuracy", "log_loss"),
    "number": ("rmse", "mae", "pearson"),
}


def sign_of(metric: str) -> int:
    """Return 1 for a metric of which greater is better, -1 for one of which smaller is."""
    return -1 if metric in SMALLER_IS_BETTER else 1


def score(task: Competition, predictions: Floats, truth: Floats, decided: Floats | None = None) -> dict[str, float]:
    """Return the score of the task's metric, and of those usual for its kind of target.

    Args:
        task: what is predicted, and the metric.
        predictions: (R, P).
        truth: (R, K), all known.
        decided: what was decided from the predictions, (R, K); by default without fitting.
    """
    predictions, truth = predictions.astype(np.float64), truth.astype(np.float64)
    decided = Decision.default(task).apply(predictions, task) if decided is None else decided
    names = dict.fromkeys([task.metric, *USUAL[task.kind]])
    values = {name: predictions if name in OF_PREDICTIONS else decided for name in names}
    return {name: float(FUNCTIONS[name](task, truth, values[name])) for name in names}


def mean_by_group(task: Competition, predictions: Floats, truth: Floats, groups: npt.NDArray[Any]) -> float:
    """Return the mean of the groups' accuracies, which counts each group once; groups (R,) of any type."""
    correct = pd.Series(Decision.default(task).apply(predictions, task)[:, 0] == truth[:, 0])
    return float(correct.groupby(groups).mean().mean())


def _f1(task: Competition, truth: Floats, decided: Floats, *, average: str) -> float:
    """Return the F1; a class with neither a row nor a prediction has 0."""
    options: dict[str, Any] = {"average": average, "zero_division": 0}
    if average == "binary":
        options["pos_label"] = task.positive_class
    elif task.kind != "multilabel":
        options["labels"] = range(len(task.outputs))
    return float(sk.f1_score(truth, decided, **options))


def _quadratic_kappa(task: Competition, truth: Floats, decided: Floats) -> float:
    labels = range(len(task.outputs))
    return float(np.nan_to_num(sk.cohen_kappa_score(truth[:, 0], decided[:, 0], labels=labels, weights="quadratic")))


def _log_loss(task: Competition, truth: Floats, predictions: Floats) -> float:
    """Return the loss in nats, of probabilities clipped at 1e-15; of several labels the mean over them."""
    if task.kind == "multilabel":
        of_truth = np.where(truth > 0, predictions, 1 - predictions)
    else:
        of_truth = predictions[np.arange(len(truth)), truth[:, 0].astype(int)]
    return float(-np.log(np.clip(of_truth, 1e-15, None)).mean())


def _auc(task: Competition, truth: Floats, predictions: Floats) -> float:
    """Return the mean over labels, or classes against the rest; one of which all rows agree is left out."""
    if task.kind == "classes":
        classes = [task.positive_class] if len(task.outputs) == 2 else list(range(len(task.outputs)))
        truth, predictions = (truth == np.array(classes)).astype(float), predictions[:, classes]  # (R, columns)
    mixed = [(one, scores) for one, scores in zip(truth.T, predictions.T, strict=True) if len(np.unique(one)) == 2]
    return float(np.mean([sk.roc_auc_score(one, scores) for one, scores in mixed])) if mixed else float("nan")


def _of_values(task: Competition, truth: Floats, predictions: Floats, *, function: Callable[..., float]) -> float:
    """Return a metric of numbers; of ordered labels it takes the expected level."""
    if task.kind == "ordinal":
        truth, predictions = task.levels[truth.astype(int)], (predictions @ task.levels)[:, None]
    return float(function(truth, predictions))


def _rmse(truth: Floats, predictions: Floats) -> float:
    return float(np.sqrt(sk.mean_squared_error(truth, predictions)))  # of all columns at once


def _correlation(truth: Floats, predictions: Floats, *, function: Callable[..., Any]) -> float:
    """Return the mean over columns of a correlation, which is 0 where one of the two is constant."""
    pairs = zip(truth.T, predictions.T, strict=True)
    return float(np.mean(np.nan_to_num([function(*pair)[0] if min(map(np.ptp, pair)) > 0 else 0.0 for pair in pairs])))


FUNCTIONS: dict[str, Function] = {
    "accuracy": lambda task, truth, decided: float((truth == decided).mean()),
    "macro_f1": partial(_f1, average="macro"),
    "micro_f1": partial(_f1, average="micro"),
    "f1": partial(_f1, average="binary"),
    "mcc": lambda task, truth, decided: float(sk.matthews_corrcoef(truth[:, 0], decided[:, 0])),
    "quadratic_kappa": _quadratic_kappa,
    "log_loss": _log_loss,
    "auc": _auc,
    "rmse": partial(_of_values, function=_rmse),
    "mae": partial(_of_values, function=sk.mean_absolute_error),
    "mcrmse": partial(_of_values, function=sk.root_mean_squared_error),
    "pearson": partial(_of_values, function=partial(_correlation, function=stats.pearsonr)),
    "spearman": partial(_of_values, function=partial(_correlation, function=stats.spearmanr)),
}
