"""Two or more models side by side, on the rows that all of them answered out of fold.

A table of answers has the columns row_id, fold, group, text, label (the class that is right) and, for each label, its
probability; one row for each row answered.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt
import pandas as pd

from unroll.evaluation.metrics import group_accuracy, score
from unroll.evaluation.significance import Difference, compare_right

Ints = npt.NDArray[np.int64]


def join_answers(answers: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return row ids, folds and probabilities as a table of answers, given the task's table of rows."""
    return answers.join(rows.set_index("row_id")[["group", "text", "label"]], on="row_id")


def shared_rows(tables: Sequence[pd.DataFrame], *, by_id: bool) -> list[Ints]:
    """Find the rows that stand in all tables of answers: same group, text and label, and the same id.

    Args:
        tables: of answers.
        by_id: ids come with the data; otherwise they are only places in a file, which a new line moves, and rows that
            are alike are told apart by their order.

    Returns:
        For each table the places of the R shared rows in it, all in one order, (R,).
    """
    keys = []
    for table in tables:
        columns = {name: table[name].to_numpy() for name in ("group", "text", "label")}
        likes = pd.DataFrame(columns)
        more = table["row_id"].to_numpy() if by_id else likes.groupby(list(columns)).cumcount().to_numpy()
        keys.append(pd.MultiIndex.from_frame(likes.assign(more=more)))
    shared = reduce(lambda left, right: left[left.isin(right)], keys)
    return [np.asarray(key.get_indexer(shared), dtype=np.int64) for key in keys]


def score_answers(table: pd.DataFrame, labels: Sequence[str]) -> dict[str, float]:
    """Return accuracy, macro-F1, log loss and the accuracy by group of a table of answers."""
    probabilities, truth = table[list(labels)].to_numpy(np.float64), table["label"].to_numpy()
    by_group = group_accuracy(probabilities, truth, table["group"].to_numpy(object).astype(str))
    return {**score(probabilities, truth), "group_accuracy": by_group}


@dataclass(frozen=True)
class Example:
    """A row that two models answer differently: its text, the right class, and their answers."""

    text: str
    label: int
    first: int
    second: int


@dataclass(frozen=True)
class Disagreement:
    """Where two models answer differently.

    Attributes:
        rows: on how many rows.
        only_first: how many of them the first one has right.
        only_second: how many of them the second one has right.
        pairs: how often each pair of answers is given, first model's class first; the most frequent ones first.
        examples: rows where one of them is right, each with a text of its own, the ones they are surest of first.
        difference: of the second one's accuracy from the first one's.
    """

    rows: int
    only_first: int
    only_second: int
    pairs: list[tuple[int, int, int]]
    examples: list[Example]
    difference: Difference


def find_disagreement(
    first: pd.DataFrame, second: pd.DataFrame, labels: Sequence[str], *, examples: int, seed: int
) -> Disagreement:
    """Compare two tables of answers that hold the same R rows in the same order.

    Args:
        first: of one model.
        second: of the other one.
        labels: of the classes.
        examples: how many to show.
        seed: of the bootstrap.
    """
    left, right = (table[list(labels)].to_numpy(np.float64) for table in (first, second))  # (R, C)
    truth = first["label"].to_numpy()
    one, other = left.argmax(1), right.argmax(1)  # (R,)
    groups = np.unique(first["group"].to_numpy(object).astype(str), return_inverse=True)[1]
    places = np.flatnonzero((one != other) & ((one == truth) | (other == truth)))
    sureness = np.minimum(left.max(1), right.max(1))[places]
    kept: dict[str, Example] = {}
    for place in places[np.argsort(-sureness, kind="stable")].tolist():
        if len(kept) == examples:
            break
        text = str(first["text"].iloc[place])
        kept.setdefault(text, Example(text, int(truth[place]), int(one[place]), int(other[place])))
    differ = one != other
    counts = Counter(zip(one[differ].tolist(), other[differ].tolist(), strict=True))
    return Disagreement(
        rows=int(differ.sum()),
        only_first=int((differ & (one == truth)).sum()),
        only_second=int((differ & (other == truth)).sum()),
        pairs=[(a, b, count) for (a, b), count in counts.most_common()],
        examples=list(kept.values()),
        difference=compare_right(one == truth, other == truth, groups, seed=seed),
    )
