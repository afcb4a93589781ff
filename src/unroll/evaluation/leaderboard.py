"""An estimate of the leaderboard's score, from out-of-fold rows and the test rows whose labels training gives.

The test rows that repeat a training text are the easy ones: short and common. So the accuracy on the others is taken
to be that of out-of-fold rows as long and as common (post-stratification).
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from unroll.data.rows import TEST, TRAIN
from unroll.evaluation.significance import Kinds, interval, resample, sum_by_group
from unroll.models.decisions import Floats

Ints = npt.NDArray[np.int64]
Tokens = tuple[str, ...]

LENGTHS = (2, 3, 4, 6, 9, 14)  # borders of the strata by number of tokens
COMMONNESS = (1, 2, 6)  # borders of the strata by number of occurrences in other groups' training texts


@dataclass(frozen=True)
class Estimate:
    """Accuracy on the test part by strata, with its interval by a bootstrap over groups.

    `known_share` is the share of test rows with a known label.
    """

    accuracy: float
    low: float
    high: float
    known_share: float


def count_occurrences(sequences: Iterable[Tokens], texts: Iterable[Tokens]) -> Ints:
    """Count at how many positions of the sequences each text occurs, (len(texts),).

    A text longer than the last border of LENGTHS is found by its first tokens, so the time is linear in all tokens.
    """
    keys = [text[: LENGTHS[-1]] for text in texts]
    counts = dict.fromkeys(keys, 0)
    sizes = {len(key) for key in keys} - {0}
    for sequence in sequences:
        for size in sizes:
            for start in range(len(sequence) - size + 1):
                key = sequence[start : start + size]
                if key in counts:
                    counts[key] += 1
    return np.array([counts[key] for key in keys], dtype=np.int64)


def strata_of(lengths: npt.ArrayLike, occurrences: Ints) -> Kinds:
    """Return each row's stratum, by the length of its text and its occurrences in other groups; (R,)."""
    columns = len(COMMONNESS) + 1
    codes = np.digitize(np.asarray(lengths), LENGTHS) * columns + np.digitize(occurrences, COMMONNESS)
    return pd.Categorical(codes, range(columns * (len(LENGTHS) + 1)))


def estimate_accuracy(out_of_fold: pd.DataFrame, test: pd.DataFrame, *, seed: int) -> Estimate:
    """Estimate the accuracy on a test part where known rows take their label and the others are predicted.

    The out-of-fold rows have the columns group, stratum and correct; the test rows group, stratum and known, which
    counts as correct. The strata are categories, the same in both.
    """
    train_sums = sum_by_group(out_of_fold["group"], out_of_fold["stratum"].array, out_of_fold["correct"])
    test_sums = sum_by_group(test["group"], test["stratum"].array, test["known"])
    overall, known_share = float(out_of_fold["correct"].mean()), float(test["known"].mean())

    def rates_of(sums: Floats) -> Floats:
        hits, rows = np.split(sums, 2, axis=-1)  # (..., S)
        return np.where(rows > 0, hits / np.maximum(rows, 1), overall)

    def accuracy_of(sums: Floats, rates: Floats) -> Floats:
        known, rows = np.split(sums, 2, axis=-1)  # (..., S)
        return np.asarray((known + (rows - known) * rates).sum(-1) / rows.sum(-1))

    # A rate has two errors: it is estimated from the out-of-fold groups, and the test groups, as few as they are,
    # deviate from it.
    rng, rates = np.random.default_rng(seed), rates_of(train_sums.sum(0))
    drawn = rates_of(resample(train_sums, rng)) + rates_of(resample(train_sums, rng, size=len(test_sums))) - rates
    low, high = interval(accuracy_of(resample(test_sums, rng), drawn))
    return Estimate(float(accuracy_of(test_sums.sum(0), rates)), float(low), float(high), known_share)


def estimate_leaderboard(
    rows: pd.DataFrame, correct: pd.Series, known: npt.NDArray[np.bool_], *, seed: int
) -> Estimate:
    """Estimate the ensemble's accuracy on a test part without labels.

    Args:
        rows: the task's table of rows: row_id, group, text, part.
        correct: whether each of R out-of-fold rows was predicted correctly, by row_id.
        known: whether the label of each of Q test rows is known from training, (Q,).
        seed: of the bootstrap.
    """
    rows = rows.assign(tokens=rows["text"].map(lambda text: tuple(text.lower().split())))
    rows["length"] = rows["tokens"].map(len)
    train, test = rows[rows["part"] == TRAIN], rows[rows["part"] == TEST]
    longest = train.loc[train.groupby("group")["length"].idxmax()]
    whole: dict[Hashable, Tokens] = dict(zip(longest["group"], longest["tokens"], strict=True))  # a group's sentence
    out_of_fold = train[train["row_id"].isin(correct.index)]
    elsewhere = count_occurrences(whole.values(), out_of_fold["tokens"])
    for group, inside in out_of_fold.groupby("group").indices.items():
        elsewhere[inside] -= count_occurrences([whole[group]], out_of_fold["tokens"].iloc[inside])
    test_occurrences = count_occurrences(whole.values(), test["tokens"])
    is_correct = correct[out_of_fold["row_id"]].to_numpy(bool)
    return estimate_accuracy(
        out_of_fold.assign(stratum=strata_of(out_of_fold["length"], elsewhere), correct=is_correct),
        test.assign(stratum=strata_of(test["length"], test_occurrences), known=known),
        seed=seed,
    )
