"""Which row is held out and which fold a row belongs to: pure functions on arrays."""

import numpy as np
import numpy.typing as npt

from unroll.core.errors import UnrollError


def deal_groups(counts: npt.NDArray[np.int64], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Deal groups of rows out to folds, so that labels are spread as evenly as whole groups allow.

    The folds are those of scikit-learn's StratifiedGroupKFold with a shuffle, which a test compares; that one needs
    every row in memory, several times, where this one needs the groups.

    Args:
        counts: how many rows of each label a group has, (G, C); the order of the groups decides with the seed.
        folds: number of folds, at least 2.
        seed: of the shuffle before groups are dealt out.

    Returns:
        Fold numbers from 0 to folds - 1, (G,).

    Raises:
        UnrollError: there are fewer groups than folds.
    """
    if len(counts) < folds:
        raise UnrollError(f"split.folds: {folds} folds need at least as many groups, found {len(counts)}")
    labels = _merge_rare(counts, folds)  # (G, C')
    totals = labels.sum(0)  # (C',)
    order = np.arange(len(labels))
    np.random.RandomState(seed).shuffle(order)
    order = order[np.argsort(-np.std(labels[order], axis=1), kind="stable")]  # the most uneven groups first
    filled = np.zeros((folds, labels.shape[1]))  # rows of each label in each fold so far
    sizes = [0.0] * folds
    one_fold = np.eye(folds)[:, :, None]
    assigned = np.empty(len(labels), dtype=np.int64)
    for group in order:
        tried = filled + one_fold * labels[group]  # (F, F, C'): row f is what it would be with the group in fold f
        unevenness = np.std(tried / totals, axis=1).mean(1).tolist()  # (F,)
        best, least = 0, np.inf
        for fold, value in enumerate(unevenness):
            is_equal = abs(value - least) <= 1e-8 + 1e-5 * abs(least)  # numpy.isclose
            if value < least or (is_equal and sizes[fold] < sizes[best]):
                best, least = fold, value
        filled[best] += labels[group]
        sizes[best] = float(filled[best].sum())
        assigned[group] = best
    return assigned


def _merge_rare(counts: npt.NDArray[np.int64], folds: int) -> npt.NDArray[np.float64]:
    """Count labels of fewer rows than folds, which cannot be spread, with the most frequent one."""
    totals = counts.sum(0)
    most = int(totals.argmax())
    is_kept = totals >= folds
    is_kept[most] = True
    merged = counts.astype(np.float64)
    merged[:, most] += merged[:, ~is_kept].sum(1)
    return merged[:, is_kept]


def count_labels(
    groups: npt.NDArray[np.integer], labels: npt.NDArray[np.integer], size: int, classes: int
) -> npt.NDArray[np.int64]:
    """Count the rows of each label in each group, (size, classes), for group numbers and classes of N rows, (N,)."""
    counts = np.zeros(size * classes, dtype=np.int64)
    for first in range(0, len(groups), 2**20):  # in parts: whole, the places alone would take 8 bytes a row
        part = slice(first, first + 2**20)
        counts += np.bincount(groups[part].astype(np.int64) * classes + labels[part], minlength=len(counts))
    return counts.reshape(size, classes)


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
    names, numbers = np.unique(groups, return_inverse=True)
    classes, classes_of_rows = np.unique(labels, return_inverse=True)
    counts = count_labels(numbers, classes_of_rows, len(names), len(classes))
    return deal_groups(counts, folds, seed)[numbers]


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
