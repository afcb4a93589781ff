"""Significance against what is known of it: exact probabilities, and draws that cover as often as they say."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unroll.evaluation.significance import compare_right, mcnemar


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_exact_binomial_probability(one: int, other: int) -> None:
    both = one + other
    tail = sum(comb(both, count) for count in range(min(one, other) + 1)) / 2**both
    assert mcnemar(one, other) == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar(one, other) == pytest.approx(mcnemar(other, one))


def test_a_model_against_itself_differs_by_nothing() -> None:
    right = np.array([True, False, True, True])
    found = compare_right(right, right, np.array([0, 0, 1, 2]), seed=1)
    assert (found.accuracy, found.low, found.high, found.p_value, found.groups) == (0, 0, 0, 1, 3)
    assert not found.is_clear


def test_the_sign_says_which_one_is_better_and_a_seed_gives_one_answer() -> None:
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(200), 5)
    first, second = rng.random(1000) < 0.5, rng.random(1000) < 0.7
    found = compare_right(first, second, groups, seed=1)
    assert found.accuracy == pytest.approx(second.mean() - first.mean())
    assert 0 < found.low < found.accuracy < found.high
    assert found.is_clear
    assert found.p_value < 1e-6
    turned = compare_right(second, first, groups, seed=1)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    assert compare_right(first, second, groups, seed=1) == found


def test_rows_that_go_together_do_not_count_as_many() -> None:
    # One model wins a coin toss a group, and with it all ten rows: as a test of rows that looks certain, and is not.
    gains = np.tile([1, 1, 1, -1, -1], 4)  # 12 groups to 8
    first, second = np.repeat(gains < 0, 10), np.repeat(gains > 0, 10)
    found = compare_right(first, second, np.repeat(np.arange(20), 10), seed=1)
    assert found.p_value < 0.01
    assert not found.is_clear


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(100), 4)
    inside = 0
    for number in range(60):
        shared = np.repeat(rng.random(100), 4)
        first, second = shared < 0.6, shared + rng.normal(0, 0.3, 400) < 0.6
        truth = -0.0103  # by the same draw, 20 million rows
        found = compare_right(first, second, groups, seed=number)
        inside += found.low <= truth <= found.high
    assert 51 <= inside <= 60
