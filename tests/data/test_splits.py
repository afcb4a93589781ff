import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unroll.core.errors import UnrollError
from unroll.data.splits import assign_folds, choose_test_rows


@st.composite
def labelled_groups(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    size = draw(st.integers(40, 120))
    labels = draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    groups = draw(st.lists(st.integers(0, 30), min_size=size, max_size=size))
    return np.array(labels), np.array([f"g{group}" for group in groups], dtype=object)


@given(labelled_groups(), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_no_group_crosses_folds_and_every_row_has_one(data: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    labels, groups = data
    folds = min(5, len(set(groups)))
    if folds < 2:
        return
    assigned = assign_folds(labels, groups, folds, seed)
    assert set(assigned) <= set(range(folds))
    for group in set(groups):
        assert len(set(assigned[groups == group])) == 1


def test_folds_hold_labels_in_equal_shares() -> None:
    labels = np.repeat([0, 1, 2], [700, 200, 100])
    groups = np.arange(1000).astype(object)
    assigned = assign_folds(labels, groups, 5, seed=1)
    for fold in range(5):
        assert np.bincount(labels[assigned == fold]).tolist() == [140, 40, 20]


def test_the_seed_decides() -> None:
    labels, groups = np.arange(200) % 3, np.arange(200).astype(object)
    first = assign_folds(labels, groups, 4, seed=1)
    assert (first == assign_folds(labels, groups, 4, seed=1)).all()
    assert (first != assign_folds(labels, groups, 4, seed=2)).any()


def test_fewer_groups_than_folds_are_refused() -> None:
    with pytest.raises(UnrollError, match=r"split.folds: needs at least 5 different groups, found 2; lower it"):
        assign_folds(np.zeros(6, dtype=int), np.array(list("aaabbb"), dtype=object), 5, seed=1)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.33])
def test_the_test_part_is_about_the_share_and_takes_whole_groups(share: float) -> None:
    groups = np.repeat(np.arange(400), 3).astype(object)
    chosen = choose_test_rows(np.arange(1200) % 5, groups, share, seed=1)
    assert abs(chosen.mean() - share) < 0.03
    assert all(len(set(chosen[groups == group])) == 1 for group in range(400))


def test_a_share_of_zero_keeps_nothing_back() -> None:
    assert not choose_test_rows(np.zeros(5, dtype=int), np.arange(5).astype(object), 0.0, seed=1).any()


def test_a_label_too_rare_to_be_spread_stands_in_no_ones_way() -> None:
    labels = np.array([0] * 20 + [1] * 2)
    assigned = assign_folds(labels, np.arange(22), 5, seed=1)
    assert sorted(np.bincount(assigned)) == [4, 4, 4, 5, 5]
