"""Trainings of a cell on the rows of all folds, once its folds are trained."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from unroll.core.files import read_json
from unroll.training.cache import FoldResult
from unroll.training.cross_validation import Training


def refits_of(results: Sequence[tuple[Training, FoldResult]]) -> list[Training]:
    """Return the trainings of a cell on all rows, given those of its folds.

    They stop at the mean of the folds' best epochs, as shares of all epochs: with another number of rows the same share
    of the schedule has another number of steps.
    """
    shares = []
    for _, result in results:
        history = read_json(result.done / "history.json")
        shares.append(history["best_epoch"] / history["planned"])
    first, share = results[0][0], round(float(np.mean(shares)), 6)
    return [replace(first, fold=number, refit=share) for number in range(first.config.split.refit)]
