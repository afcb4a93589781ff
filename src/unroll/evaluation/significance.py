"""Confidence intervals and tests: a bootstrap over groups, and McNemar's test.

Rows of a group, such as the phrases of a sentence, are not independent, so the bootstrap resamples whole groups.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binomtest

from unroll.data.competition import OF_PREDICTIONS, Competition
from unroll.evaluation.metrics import FUNCTIONS
from unroll.models.decisions import Floats

Kinds: TypeAlias = "pd.Categorical[Any]"

DRAWS = 2000
FEW_DRAWS = 200  # of a score that is computed anew for each draw
CONFIDENCE = 0.95  # level of every interval
BATCH_VALUES = 10_000_000  # numbers in memory at a time


def resample(sums: Floats, rng: np.random.Generator, *, size: int | None = None) -> Floats:
    """Return the totals over groups drawn with replacement, DRAWS times: sums of each group (G, K) to (DRAWS, K).

    A draw has `size` groups, or G of them.
    """
    groups, batch = len(sums), max(1, BATCH_VALUES // len(sums))
    totals = []
    for begin in range(0, DRAWS, batch):
        draws = min(batch, DRAWS - begin)
        chosen = rng.integers(groups, size=(draws, size or groups)) + groups * np.arange(draws)[:, None]
        totals.append(np.bincount(chosen.ravel(), minlength=draws * groups).reshape(draws, groups) @ sums)
    return np.concatenate(totals)


def interval(draws: Floats) -> tuple[Any, Any]:
    """Return the lower and upper quantile of the draws, (DRAWS, ...) to (...) each; NaN is left out."""
    low, high = np.nanquantile(draws, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2), axis=0)
    return low, high


def sum_by_group(groups: pd.Series, kinds: Kinds, values: pd.Series) -> Floats:
    """Return the sums of the values, and the numbers of rows, of G groups and K kinds: (R,) each to (G, 2 * K)."""
    table = pd.DataFrame({"group": groups.array, "kind": kinds, "value": values.array})
    sums = table.groupby(["group", "kind"], observed=False)["value"].agg(["sum", "size"])
    return sums.unstack().to_numpy(np.float64)


def accuracy_by(predictions: pd.DataFrame, kinds: Kinds, *, seed: int) -> pd.DataFrame:
    """Return the accuracy of each kind of row with its interval, given predictions with the columns group and correct.

    The kinds are (R,); categories without rows are left out. The columns are kind, rows, accuracy, low and high.
    """
    kinds = kinds.remove_unused_categories()
    sums = sum_by_group(predictions["group"], kinds, predictions["correct"])
    hits, rows = np.split(sums.sum(0), 2)  # (K,)
    drawn_hits, drawn_rows = np.split(resample(sums, np.random.default_rng(seed)), 2, axis=1)
    drawn = np.divide(drawn_hits, drawn_rows, out=np.full_like(drawn_hits, np.nan), where=drawn_rows > 0)
    columns = {"kind": kinds.categories, "rows": rows.astype(int), "accuracy": hits / rows}
    return pd.DataFrame(columns | dict(zip(("low", "high"), interval(drawn), strict=True)))


@dataclass(frozen=True)
class Difference:
    """The score of a second model less that of a first one, and its interval by a bootstrap over groups.

    The p-value is of McNemar's exact test, two-sided, which takes rows as independent (Dietterich, 1998, "Approximate
    statistical tests for comparing supervised classification learning algorithms"); None where nothing is decided.
    """

    score: float
    low: float
    high: float
    p_value: float | None
    groups: int
    draws: int

    @property
    def is_clear(self) -> bool:
        """Return whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def compare_scores(
    task: Competition, predictions: Sequence[Floats], truth: Floats, decided: Sequence[Floats], groups: pd.Series,
    *, seed: int,
) -> Difference:  # fmt: skip
    """Compare two models' predictions, (R, P) each, and decisions, (R, K), of the same rows, in groups, (R,)."""
    correct = [(each == truth).all(1) for each in decided]  # (R,)
    gains = correct[1].astype(int) - correct[0].astype(int)
    p_value = None
    if task.kind != "number":
        discordant = int(np.abs(gains).sum())
        p_value = float(binomtest(int((gains > 0).sum()), discordant).pvalue) if discordant else 1.0
    if task.metric == "accuracy":
        sums = sum_by_group(groups, pd.Categorical([""] * len(gains)), pd.Series(gains))  # (G, 2)
        drawn = resample(sums, np.random.default_rng(seed))
        low, high = interval(drawn[:, 0] / drawn[:, 1])
        return Difference(float(gains.mean()), float(low), float(high), p_value, len(sums), DRAWS)
    metric, values = FUNCTIONS[task.metric], predictions if task.metric in OF_PREDICTIONS else decided

    def difference(rows: npt.NDArray[np.int64]) -> float:
        return metric(task, truth[rows], values[1][rows]) - metric(task, truth[rows], values[0][rows])

    low, high = bootstrap(difference, groups, seed=seed)
    whole = difference(np.arange(len(truth)))
    return Difference(whole, low, high, p_value, groups.nunique(), FEW_DRAWS)


def bootstrap(
    statistic: Callable[[npt.NDArray[np.int64]], float], groups: pd.Series, *, seed: int
) -> tuple[float, float]:
    """Return the interval of a statistic of row numbers over FEW_DRAWS draws of whole groups, given as (R,)."""
    codes = pd.factorize(groups)[0]
    order = np.argsort(codes, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(members), size=len(members)) for _ in range(FEW_DRAWS))
    low, high = interval(np.array([statistic(np.concatenate([members[each] for each in draw])) for draw in draws]))
    return float(low), float(high)
