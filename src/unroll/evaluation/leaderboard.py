"""An estimate of the leaderboard's score from out-of-fold rows and the overlap with the training file."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from unroll.data.rows import TEST, TRAIN

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

LENGTHS = (2, 3, 4, 6, 9, 14)  # a text of n tokens lies in the first stratum whose border is larger than n
COMMONNESS = (1, 2, 6)  # likewise for the number of training sequences' places where it stands
DRAWS = 1000


@dataclass(frozen=True)
class Estimate:
    """Accuracy on the test part.

    Attributes:
        accuracy: by strata.
        low: 2.5 % quantile of the bootstrap over groups.
        high: 97.5 % quantile.
        plain: the formula that takes every unknown row at the out-of-fold rate; it reads too high, because the rows
            that repeat a training text are the easy ones.
        known_share: share of the test rows whose text stands in the training part.
    """

    accuracy: float
    low: float
    high: float
    plain: float
    known_share: float


def count_places(sequences: Sequence[Sequence[str]], texts: Sequence[Sequence[str]]) -> Ints:
    """Count at how many places in the sequences each text stands, token for token, (len(texts),)."""
    wanted = {tuple(text) for text in texts}
    longest = max(map(len, wanted), default=0)
    counts: Counter[tuple[str, ...]] = Counter()
    for sequence in sequences:
        tokens = tuple(sequence)
        for start in range(len(tokens)):
            for end in range(start + 1, min(start + longest, len(tokens)) + 1):
                gram = tokens[start:end]
                if gram in wanted:
                    counts[gram] += 1
    return np.array([counts[tuple(text)] for text in texts], dtype=np.int64)


def count_own_places(sequence: Sequence[str], text: Sequence[str]) -> int:
    """Count at how many places in one sequence a text stands."""
    size, wanted = len(text), list(text)
    return (
        sum(list(sequence[start : start + size]) == wanted for start in range(len(sequence) - size + 1)) if size else 0
    )


def strata_of(lengths: Ints, places: Ints) -> Ints:
    """Return each row's stratum: how long its text is, and how often it stands in sequences of other groups; (R,)."""
    return np.digitize(lengths, LENGTHS) * (len(COMMONNESS) + 1) + np.digitize(places, COMMONNESS)


def estimate_accuracy(
    right: Bools, strata: Ints, groups: Ints, test_strata: Ints, test_known: Bools, test_groups: Ints, *, seed: int
) -> Estimate:
    """Estimate the accuracy on a test part whose known rows take their label and whose others are predicted.

    An unknown test row is taken to be right as often as the out-of-fold rows of its stratum.

    Args:
        right: whether each out-of-fold row was predicted right, (R,).
        strata: of each out-of-fold row, (R,).
        groups: group number of each out-of-fold row, (R,).
        test_strata: of each test row, (Q,).
        test_known: whether a test row's label is known, and taken as right, (Q,).
        test_groups: group number of each test row, (Q,).
        seed: of the bootstrap, which draws whole groups with replacement.
    """
    kinds = int(max(strata.max(), test_strata.max())) + 1
    rights, seen = _by_group(groups, strata, right, kinds), _by_group(groups, strata, np.ones_like(right), kinds)
    unknown = _by_group(test_groups, test_strata, ~test_known, kinds)
    known = np.bincount(test_groups, test_known)  # (test groups,)
    overall = right.mean()

    def rates_of(weights: Floats) -> Floats:
        hits, rows = weights @ rights, weights @ seen  # (kinds,)
        return np.where(rows > 0, hits / np.maximum(rows, 1), overall)

    def combine(rates: Floats, test_weights: Floats) -> float:
        missing = test_weights @ unknown  # (kinds,)
        sure = test_weights @ known
        return float((sure + missing @ rates) / (sure + missing.sum()))

    generator = np.random.default_rng(seed)

    def draw(size: int, groups: int) -> Floats:
        return generator.multinomial(size, np.full(groups, 1 / groups)).astype(np.float64)

    rates = rates_of(np.ones(len(seen)))
    draws = []
    for _ in range(DRAWS):
        # The rates are not known better than the out-of-fold groups tell, and the test groups, being as many as they
        # are, do not score exactly at their rates: two draws, the second of the test part's size.
        drawn = rates_of(draw(len(seen), len(seen))) + rates_of(draw(len(unknown), len(seen))) - rates
        draws.append(combine(drawn, draw(len(unknown), len(unknown))))
    share = float(test_known.mean())
    return Estimate(
        accuracy=combine(rates, np.ones(len(unknown))),
        low=float(np.quantile(draws, 0.025)),
        high=float(np.quantile(draws, 0.975)),
        plain=share + (1 - share) * float(overall),
        known_share=share,
    )


def estimate_leaderboard(rows: pd.DataFrame, right: pd.Series, known: Bools, *, seed: int) -> Estimate:
    """Estimate what the ensemble would reach on a test part whose labels nobody here knows.

    Args:
        rows: the task's table of rows: row_id, group, text, part.
        right: whether each out-of-fold row was predicted right, by row_id, (R,).
        known: whether each row of the test part takes a label that the training part gives, in order, (Q,).
        seed: of the bootstrap.
    """
    train, test = rows[rows["part"] == TRAIN], rows[rows["part"] == TEST]
    texts = {part: [text.lower().split() for text in table["text"]] for part, table in (("a", train), ("b", test))}
    whole: dict[str, list[str]] = {}
    for group, text in zip(train["group"], texts["a"], strict=True):
        if len(text) > len(whole.get(group, ())):
            whole[group] = text
    sequences = list(whole.values())
    out = train["row_id"].isin(right.index).to_numpy()
    out_texts = [text for text, kept in zip(texts["a"], out, strict=True) if kept]
    out_groups = train["group"].to_numpy(object)[out]
    own = [count_own_places(whole.get(group, ()), text) for group, text in zip(out_groups, out_texts, strict=True)]
    elsewhere = count_places(sequences, out_texts) - np.array(own)
    return estimate_accuracy(
        right[train["row_id"][out]].to_numpy(bool),
        strata_of(np.array([len(text) for text in out_texts]), elsewhere),
        np.unique(out_groups.astype(str), return_inverse=True)[1],
        strata_of(np.array([len(text) for text in texts["b"]]), count_places(sequences, texts["b"])),
        known,
        np.unique(test["group"].to_numpy(object).astype(str), return_inverse=True)[1],
        seed=seed,
    )


def _by_group(groups: Ints, strata: Ints, values: Bools, kinds: int) -> npt.NDArray[np.float64]:
    """Return the sum of values by group and stratum, (groups, kinds)."""
    size = int(groups.max()) + 1
    weights = values.astype(np.float64)
    return np.bincount(groups * kinds + strata, weights, size * kinds).astype(np.float64).reshape(size, kinds)
