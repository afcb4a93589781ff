"""The bootstrap and McNemar's test against exact probabilities and against simulated coverage."""

from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.definitions import define
from unroll.evaluation import significance
from unroll.evaluation.significance import Difference, accuracy_by, bootstrap, compare_scores, resample

TASK = define(["right", "wrong"], "accuracy")


def compare(first: np.ndarray, second: np.ndarray, groups: np.ndarray, seed: int = 1) -> Difference:
    decided = [(~each.astype(bool)).astype(float)[:, None] for each in (first, second)]
    return compare_scores(TASK, decided, np.zeros((len(first), 1)), decided, pd.Series(groups), seed=seed)


@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_is_the_exact_binomial_probability(one: int, other: int) -> None:
    first = np.array([True] * one + [False] * other + [True])
    second = np.array([False] * one + [True] * other + [True])
    both = one + other
    tail = sum(comb(both, count) for count in range(min(one, other) + 1)) / 2**both
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(significance, "DRAWS", 2)
        assert compare(first, second, np.arange(len(first))).p_value == pytest.approx(min(1.0, 2 * tail))


def test_a_model_against_itself_has_no_difference() -> None:
    correct = np.array([True, False, True, True])
    found = compare(correct, correct, np.array([0, 0, 1, 2]))
    assert (found.score, found.low, found.high, found.p_value, found.groups) == (0, 0, 0, 1, 3)
    assert not found.is_clear


def test_the_sign_tells_which_model_is_better_and_a_seed_fixes_the_result() -> None:
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(200), 5)
    first, second = rng.random(1000) < 0.5, rng.random(1000) < 0.7
    found = compare(first, second, groups)
    assert found.score == pytest.approx(second.mean() - first.mean())
    assert 0 < found.low < found.score < found.high
    assert found.is_clear
    assert found.p_value is not None
    assert found.p_value < 1e-6
    swapped = compare(second, first, groups)
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low))
    assert compare(first, second, groups) == found


def test_rows_of_a_group_are_not_taken_as_independent() -> None:
    # One model wins a coin toss a group, and with it all ten rows: significant for a test of rows, but not for groups.
    gains = np.tile([1, 1, 1, -1, -1], 4)  # 12 groups to 8
    first, second = np.repeat(gains < 0, 10), np.repeat(gains > 0, 10)
    found = compare(first, second, np.repeat(np.arange(20), 10))
    assert found.p_value is not None
    assert found.p_value < 0.01
    assert not found.is_clear


def test_the_interval_covers_the_true_difference_as_often_as_its_level() -> None:
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(100), 4)
    inside = 0
    for number in range(60):
        shared = np.repeat(rng.random(100), 4)
        first, second = shared < 0.6, shared + rng.normal(0, 0.3, 400) < 0.6
        truth = -0.0103  # from 20 million rows
        found = compare(first, second, groups, seed=number)
        inside += found.low <= truth <= found.high
    assert 51 <= inside <= 60


def test_resampling_in_batches_gives_draws_of_the_requested_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(significance, "BATCH_VALUES", 70)  # a few draws at a time
    sums = np.column_stack([np.ones(10), np.arange(10.0)])
    drawn = resample(sums, np.random.default_rng(1), size=4)
    assert drawn.shape == (significance.DRAWS, 2)
    assert (drawn[:, 0] == 4).all()
    assert drawn[:, 1].mean() == pytest.approx(4 * 4.5, abs=0.3)


def test_accuracy_by_kind_counts_rows_and_leaves_out_empty_kinds() -> None:
    predictions = pd.DataFrame({"group": list("aabbc"), "correct": [False, True, True, True, False]})
    kinds = pd.Categorical(["x", "y", "y", "x", "x"], categories=["z", "y", "x"])
    table = accuracy_by(predictions, kinds, seed=1)
    assert table["kind"].tolist() == ["y", "x"]
    assert table["rows"].tolist() == [2, 3]
    np.testing.assert_allclose(table["accuracy"], [1, 1 / 3])
    assert (table["low"] <= table["accuracy"]).all()
    assert (table["high"] >= table["accuracy"]).all()


def test_the_interval_widens_as_groups_become_fewer() -> None:
    by_group = np.repeat(np.random.default_rng(0).random(200) < 0.6, 20)  # a group is correct or wrong as a whole
    error = np.sqrt(0.6 * 0.4 / 200)
    for groups, expected in ((np.repeat(np.arange(200), 20), error), (np.arange(4000), error / np.sqrt(20))):
        predictions = pd.DataFrame({"group": groups, "correct": by_group})
        table = accuracy_by(predictions, pd.Categorical(["all"] * 4000), seed=1)
        assert (table["high"] - table["low"]).item() == pytest.approx(2 * 1.96 * expected, rel=0.2)


def test_a_score_that_is_no_mean_over_rows_is_computed_anew_for_each_draw() -> None:
    task, rng = define(["x"], "rmse", "number"), np.random.default_rng(1)
    truth = rng.normal(size=(300, 1))
    near, far = (truth + size * rng.normal(size=truth.shape) for size in (0.5, 0.8))
    found = compare_scores(task, [far, near], truth, [far, near], pd.Series(np.arange(300) // 3), seed=1)
    assert found.score == pytest.approx(np.sqrt(((near - truth) ** 2).mean()) - np.sqrt(((far - truth) ** 2).mean()))
    assert found.low < found.score < found.high < 0
    assert (found.p_value, found.groups, found.draws) == (None, 100, significance.FEW_DRAWS)


def test_the_general_bootstrap_agrees_with_that_of_sums() -> None:
    correct, groups = np.random.default_rng(0).random(2000) < 0.6, pd.Series(np.arange(2000) // 4)
    low, high = bootstrap(lambda rows: float(correct[rows].mean()), groups, seed=1)
    table = accuracy_by(pd.DataFrame({"group": groups, "correct": correct}), pd.Categorical(["all"] * 2000), seed=1)
    assert (low, high) == pytest.approx((table["low"].item(), table["high"].item()), abs=0.006)
