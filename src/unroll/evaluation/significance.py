"""Is one model better than another, or was it chance: pure functions on arrays."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

DRAWS = 2000
CERTAINTY = 0.95  # share of the draws that the interval holds
CHUNK = 100  # draws at a time, so that memory stays small


@dataclass(frozen=True)
class Difference:
    """How much more often the second model is right.

    Attributes:
        accuracy: the second one's accuracy less the first one's, over R rows.
        low: 2.5 % quantile of it under the bootstrap over groups.
        high: 97.5 % quantile.
        p_value: McNemar's exact test, which takes every row for itself: how often chance alone gives such a
            difference or a larger one, if both models are equally good.
        groups: how many there are.
    """

    accuracy: float
    low: float
    high: float
    p_value: float
    groups: int

    @property
    def is_clear(self) -> bool:
        """Return whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the p-value of McNemar's exact test, two-sided.

    Of the rows that just one of two models has right, either is equally often the one, if they are equally good; see
    Dietterich (1998), "Approximate statistical tests for comparing supervised classification learning algorithms".

    Args:
        only_first: rows that the first model alone has right.
        only_second: rows that the second model alone has right.
    """
    both = only_first + only_second
    return float(binomtest(only_first, both).pvalue) if both else 1.0


def draw_groups(count: int, draws: int, *, seed: int) -> Iterator[Ints]:
    """Yield how often a bootstrap draws each of `count` groups, CHUNK draws at a time, (up to CHUNK, count)."""
    generator = np.random.default_rng(seed)
    for begin in range(0, draws, CHUNK):
        yield generator.multinomial(count, np.full(count, 1 / count), size=min(CHUNK, draws - begin))


def compare_right(first: Bools, second: Bools, groups: Ints, *, seed: int) -> Difference:
    """Compare two models on the same rows.

    Rows of a group, as the phrases of a sentence, are right or wrong together, so the bootstrap draws whole groups.

    Args:
        first: whether the first model has each row right, (R,).
        second: whether the second one has, (R,).
        groups: group number of each row, from 0, (R,).
        seed: of the bootstrap.
    """
    gains = np.bincount(groups, second.astype(np.float64) - first)  # (G,)
    sizes = np.bincount(groups).astype(np.float64)  # (G,)
    count = len(sizes)
    spread = np.concatenate([(weights @ gains) / (weights @ sizes) for weights in draw_groups(count, DRAWS, seed=seed)])
    return Difference(
        accuracy=float(gains.sum() / sizes.sum()),
        low=float(np.quantile(spread, (1 - CERTAINTY) / 2)),
        high=float(np.quantile(spread, (1 + CERTAINTY) / 2)),
        p_value=mcnemar(int((first & ~second).sum()), int((second & ~first).sum())),
        groups=count,
    )
