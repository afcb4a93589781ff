import numpy as np

from unroll.evaluation.leaderboard import count_places, estimate_accuracy, strata_of


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
    assert found.high - found.low < 0.6, "ten test groups, all of them hard or known"
    assert found.known_share == 0.2


def test_a_stratum_without_out_of_fold_rows_takes_the_overall_rate() -> None:
    ones = np.ones(4, dtype=bool)
    right, groups = np.array([True, False, True, False]), np.arange(4)
    found = estimate_accuracy(right, np.zeros(4, int), groups, np.array([3, 3]), ~ones[:2], np.arange(2), seed=1)
    assert found.accuracy == 0.5


def test_the_interval_covers_what_the_test_part_scores_about_as_often_as_it_says() -> None:
    """Sentences differ in how hard they are, and the test part is a third as large as the training part."""
    generator = np.random.default_rng(5)
    inside = 0
    for trial in range(60):
        hard = generator.beta(6, 4, size=400)
        groups = np.repeat(np.arange(400), 10)
        right = generator.random(4000) < hard[groups]
        train, test = groups < 300, groups >= 300
        no = np.zeros(4000, dtype=np.int64)
        found = estimate_accuracy(
            right[train], no[train], groups[train], no[test], no[test] > 0, groups[test] - 300, seed=trial
        )
        inside += found.low <= right[test].mean() <= found.high
    assert inside >= 51, "a nominal 95 % interval over 60 trials: 51 of them has a chance of one in five hundred"
