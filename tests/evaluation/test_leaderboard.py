import time

import numpy as np
import pandas as pd

from unroll.evaluation.leaderboard import Estimate, count_occurrences, estimate_accuracy, strata_of


def test_occurrences_are_those_of_a_plain_search() -> None:
    sequences = [tuple("abcab"), tuple("ab"), tuple("xbc")]
    texts = [tuple("ab"), tuple("bc"), tuple("abcab"), tuple("q"), ()]
    assert count_occurrences(sequences, texts).tolist() == [3, 2, 1, 0, 0]


def test_a_long_text_is_found_by_its_first_tokens() -> None:
    long = tuple("abcdefghijklmnopqrst")
    assert count_occurrences([long, long[:15], long[1:]], [long]).tolist() == [2]


def test_counting_takes_linear_time_in_the_length_of_the_texts() -> None:
    """Whole reviews as the texts: a cubic count takes minutes for these 200,000 tokens."""
    words = np.random.default_rng(1).integers(0, 5000, 200_000).astype(str).tolist()
    texts = [tuple(words[begin : begin + 1000]) for begin in range(0, len(words), 1000)]
    begin = time.process_time()
    assert count_occurrences(texts, [*texts, ("0",)])[:-1].tolist() == [1] * len(texts)
    assert time.process_time() - begin < 20


def test_a_stratum_is_a_length_and_a_commonness() -> None:
    strata = strata_of(np.array([1, 1, 1, 5, 30, 6, 8]), np.array([0, 1, 100, 0, 0, 3, 5]))
    assert len(set(strata.codes[:5])) == 5
    assert strata.codes[5] == strata.codes[6]


def estimate(correct: np.ndarray, strata: np.ndarray, groups: np.ndarray, test: tuple[np.ndarray, ...]) -> Estimate:
    kinds = range(4)
    out_of_fold = pd.DataFrame({"group": groups, "stratum": pd.Categorical(strata, kinds), "correct": correct})
    test_strata, known, test_groups = test
    table = pd.DataFrame({"group": test_groups, "stratum": pd.Categorical(test_strata, kinds), "known": known})
    return estimate_accuracy(out_of_fold, table, seed=1)


def test_the_estimate_takes_each_stratum_at_its_own_rate() -> None:
    """Easy rows are always correct, hard ones one time in four; the unknown test rows are all hard."""
    correct = np.array([True] * 400 + [True, False, False, False] * 100)
    strata = np.array([0] * 400 + [1] * 400)
    groups = np.tile(np.arange(80), 10)
    test = (np.array([0] * 20 + [1] * 80), np.array([True] * 20 + [False] * 80), np.tile(np.arange(10), 10))
    found = estimate(correct, strata, groups, test)
    assert found.accuracy == 0.2 + 0.8 * 0.25
    assert found.low < found.accuracy < found.high
    assert found.high - found.low < 0.6, "ten test groups, all of them hard or known"
    assert found.known_share == 0.2


def test_a_stratum_without_out_of_fold_rows_takes_the_overall_rate() -> None:
    correct, groups = np.array([True, False, True, False]), np.arange(4)
    found = estimate(correct, np.zeros(4, int), groups, (np.array([3, 3]), np.zeros(2, bool), np.arange(2)))
    assert found.accuracy == 0.5


def test_the_interval_covers_the_test_score_about_as_often_as_its_level() -> None:
    """Sentences differ in how hard they are, and the test part is a third as large as the training part."""
    generator = np.random.default_rng(5)
    inside = 0
    for _ in range(60):
        hard = generator.beta(6, 4, size=400)
        groups = np.repeat(np.arange(400), 10)
        correct = generator.random(4000) < hard[groups]
        train, test = groups < 300, groups >= 300
        no = np.zeros(4000, dtype=np.int64)
        found = estimate(correct[train], no[train], groups[train], (no[test], no[test] > 0, groups[test]))
        inside += found.low <= correct[test].mean() <= found.high
    assert inside >= 51, "a nominal 95 % interval over 60 trials: 51 of them has a chance of one in five hundred"
