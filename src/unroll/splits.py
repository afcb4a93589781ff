"""Which row is kept back and which fold a row belongs to: pure functions on arrays."""

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from unroll.errors import UnrollError


def assign_folds(
    labels: npt.NDArray[np.int64], groups: npt.NDArray[np.object_], folds: int, seed: int
) -> npt.NDArray[np.int64]:
    """Assign every row a fold, so that no group crosses folds and labels are spread as evenly as groups allow.

    Args:
        labels: class of each row, shape (N,).
        groups: group of each row, any values that sort, shape (N,).
        folds: number of folds, at least 2.
        seed: of the shuffle before groups are dealt out.

    Returns:
        Fold numbers from 0 to folds - 1, shape (N,).

    Raises:
        UnrollError: there are fewer groups than folds.
    """
    group_numbers = np.unique(groups, return_inverse=True)[1]
    found = int(group_numbers.max()) + 1 if len(groups) else 0
    if found < folds:
        raise UnrollError(f"split.folds: {folds} folds need at least as many groups, found {found}")
    # A label of fewer rows than folds cannot be spread: such labels are spread together, with the most frequent one.
    _, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    numbers = np.where(counts[numbers] < folds, counts.argmax(), numbers)
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    assigned = np.full(len(labels), -1, dtype=np.int64)
    for fold, (_, rows) in enumerate(splitter.split(numbers, numbers, group_numbers)):
        assigned[rows] = fold
    return assigned


def choose_test_rows(
    labels: npt.NDArray[np.int64], groups: npt.NDArray[np.object_], share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Choose about a share of the rows to keep back as a test part, whole groups at a time, labels spread evenly.

    Args:
        labels: class of each row, shape (N,).
        groups: group of each row, shape (N,).
        share: between 0 (no row) and 1 (exclusive).
        seed: of the choice.

    Returns:
        True for a row of the test part, shape (N,).
    """
    if share == 0:
        return np.zeros(len(labels), dtype=bool)
    # A share of s is about s * slices slices; with twenty slices it is met within a fortieth.
    slices = round(1 / share) if round(1 / share) * share == 1 else 20
    taken = min(max(1, round(share * slices)), slices - 1)
    return assign_folds(labels, groups, slices, seed) < taken
