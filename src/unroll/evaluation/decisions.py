"""Decisions fitted on out-of-fold predictions: the threshold, thresholds or cut points with the best score."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unroll.data.competition import OF_PREDICTIONS, Competition
from unroll.evaluation.metrics import FUNCTIONS, sign_of
from unroll.models.decisions import Decision, Floats

CANDIDATES = 100  # values that are tried in each place, quantiles of the predictions
ROUNDS = 3  # over all places


def fit_decision(task: Competition, predictions: Floats, truth: Floats) -> Decision:
    """Return the decision with the best score of the metric on predictions (R, P) with the truth (R, K).

    A metric of the predictions themselves needs none; the accuracy, and any metric of three or more classes, is that of
    the most probable class.
    """
    default, outputs = Decision.default(task), len(task.outputs)

    def loss(decision: Decision) -> float:
        return -sign_of(task.metric) * FUNCTIONS[task.metric](task, truth, decision.apply(predictions, task))

    if task.metric in OF_PREDICTIONS or task.metric == "accuracy" or (task.kind == "classes" and outputs > 2):
        return default
    if task.kind == "classes":
        return _search(Decision("threshold", (0.5,)), predictions[:, [task.positive_class]], loss)
    if task.kind == "multilabel":
        return _search(default, predictions, loss)
    levels = np.arange(outputs)
    expected = predictions @ levels  # (R,)
    shares = [np.quantile(expected, (truth <= level).mean()) for level in levels[:-1]]  # each level is as frequent
    starts = [Decision("cuts", tuple(map(float, cuts))) for cuts in (shares, levels[:-1] + 0.5)]
    columns = np.repeat(expected[:, None], outputs - 1, axis=1)
    return min([default, *(_search(start, columns, loss) for start in starts)], key=loss)


def _search(start: Decision, columns: Floats, loss: Callable[[Decision], float]) -> Decision:
    """Improve the values of a decision one by one, each among the quantiles of its column."""
    best, smallest = start, loss(start)
    grids = [np.unique(np.quantile(column, np.linspace(0, 1, CANDIDATES))).tolist() for column in columns.T]
    for _ in range(ROUNDS if len(grids) > 1 else 1):
        before = best
        for place, grid in enumerate(grids):
            for value in grid:
                values = (*best.values[:place], value, *best.values[place + 1 :])
                tried = Decision(best.rule, values)
                if (best.rule != "cuts" or list(values) == sorted(values)) and (found := loss(tried)) < smallest:
                    best, smallest = tried, found
        if best == before:
            break
    return best


def decide_nested(
    task: Competition, predictions: Floats, truth: Floats, folds: npt.NDArray[Any], groups: npt.NDArray[Any]
) -> Floats:
    """Return what is decided, (R, K), from predictions (R, P), each fold by a decision fitted on the others.

    A single fold is divided into two halves of whole groups, (R,) of any type.
    """
    parts = folds if len(np.unique(folds)) > 1 else pd.factorize(groups)[0] % 2
    decided = np.array(Decision.default(task).apply(predictions, task))
    for part in np.unique(parts):
        others = parts != part
        if others.any():
            decided[~others] = fit_decision(task, predictions[others], truth[others]).apply(predictions[~others], task)
    return decided
