"""Folds and held-out test parts: stratified by label, with whole groups."""

from typing import Any

import numpy as np
import numpy.typing as npt

from unroll.core.errors import UnrollError


def assign_folds(
    labels: npt.NDArray[np.int64], groups: npt.NDArray[Any], folds: int, seed: int, *, key: str = "split.folds"
) -> npt.NDArray[np.int64]:
    """Assign every row a fold, so that no group crosses folds and labels are spread as evenly as groups allow.

    Args:
        labels: class of each row, (N,).
        groups: group of each row, any values that sort, (N,); their order and the seed decide the folds.
        folds: number of folds, at least 2.
        seed: of the shuffle of the groups.
        key: the setting that says how many folds, for the message.

    Returns:
        Fold numbers from 0 to folds - 1, (N,).

    Raises:
        UnrollError: there are fewer groups than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second, and most programs split nothing

    found = len(np.unique(groups))
    if found < folds:
        fix = "lower it" if key == "split.folds" else "set it to 0"
        raise UnrollError(f"params.yaml: {key}: needs at least {folds} different groups, found {found}; {fix}")
    # Labels of fewer rows than folds cannot be spread: they count as the most frequent label.
    counts = np.bincount(labels)
    spread = np.where(counts[labels] < folds, counts.argmax(), labels)
    assigned = np.empty(len(labels), dtype=np.int64)
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    for fold, (_, rows) in enumerate(splitter.split(spread, spread, groups)):
        assigned[rows] = fold
    return assigned


def choose_test_rows(
    labels: npt.NDArray[np.int64], groups: npt.NDArray[Any], share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Choose about a share of the rows, from 0 to 1 (exclusive), as a test part; otherwise as assign_folds.

    Returns:
        True for a row of the test part, (N,).
    """
    if share == 0:
        return np.zeros(len(labels), dtype=bool)
    # With twenty slices a share is met within a fortieth; a share such as 1/3 or 1/10 is one slice.
    slices = round(1 / share) if round(1 / share) * share == 1 else 20
    taken = min(max(1, round(share * slices)), slices - 1)
    return assign_folds(labels, groups, slices, seed, key="split.test_share") < taken
