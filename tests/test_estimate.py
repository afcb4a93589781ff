import numpy as np

from unroll.estimate import count_places, estimate_accuracy, strata_of


def test_places_are_counted_as_a_plain_search_counts_them() -> None:
    sequences = [list("abcab"), list("ab"), list("xbc")]
    texts = [list("ab"), list("bc"), list("abcab"), list("q"), []]
    assert count_places(sequences, texts).tolist() == [3, 2, 1, 0, 0]


def test_a_stratum_is_a_length_and_a_commonness() -> None:
    strata = strata_of(np.array([1, 1, 1, 5, 30]), np.array([0, 1, 100, 0, 0]))
    assert len(set(strata.tolist())) == 5
    assert strata_of(np.array([6]), np.array([3])) == strata_of(np.array([8]), np.array([5]))


def test_the_estimate_takes_each_stratum_at_its_own_rate() -> None:
    """Easy rows are always right, hard ones one time in four; the unknown test rows are all hard."""
    right = np.array([True] * 400 + [True, False, False, False] * 100)
    strata = np.array([0] * 400 + [1] * 400)
    groups = np.tile(np.arange(80), 10)
    test_strata, test_known = np.array([0] * 20 + [1] * 80), np.array([True] * 20 + [False] * 80)
    test_groups = np.tile(np.arange(10), 10)
    found = estimate_accuracy(right, strata, groups, test_strata, test_known, test_groups, seed=1)
    assert found.accuracy == 0.2 + 0.8 * 0.25
    assert found.plain == 0.2 + 0.8 * 0.625
    assert found.low < found.accuracy < found.high
    assert found.high - found.low < 0.2
    assert found.known_share == 0.2


def test_a_stratum_without_out_of_fold_rows_takes_the_overall_rate() -> None:
    ones = np.ones(4, dtype=bool)
    right, groups = np.array([True, False, True, False]), np.arange(4)
    found = estimate_accuracy(right, np.zeros(4, int), groups, np.array([3, 3]), ~ones[:2], np.arange(2), seed=1)
    assert found.accuracy == 0.5
