"""Two or more models compared on the rows that all of them predicted out of fold.

A table of predictions has the columns row_id, fold, group, text, label (number of the true class) and, for each label,
its probability; one line for each row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unroll.evaluation.metrics import group_accuracy, score
from unroll.evaluation.significance import Difference, compare_accuracy


def join_predictions(predictions: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return row ids, folds and probabilities as a table of predictions, given the task's table of rows."""
    return predictions.join(rows.set_index("row_id")[["group", "text", "label"]], on="row_id")


def shared_rows(tables: Sequence[pd.DataFrame], *, by_id: bool) -> list[npt.NDArray[np.int64]]:
    """Return for each table of predictions the positions, (R,), of the R rows that all have, all in the same order.

    A row is the same where group, text and label are, and the id too with `by_id`. Without it ids are positions in a
    file, which an added line shifts, and rows that are alike are matched in their order.
    """
    keys = []
    for table in tables:
        columns = table[["group", "text", "label"]]
        number = table["row_id"] if by_id else columns.groupby(list(columns)).cumcount()
        keys.append(pd.MultiIndex.from_frame(columns.assign(number=number)))
    shared = reduce(lambda left, right: left[left.isin(right)], keys)
    return [np.asarray(key.get_indexer(shared), dtype=np.int64) for key in keys]


def score_predictions(table: pd.DataFrame, labels: Sequence[str]) -> dict[str, float]:
    """Return accuracy, macro-F1, log loss and group accuracy of a table of predictions."""
    probabilities, truth = table[list(labels)].to_numpy(np.float64), table["label"].to_numpy()
    by_group = group_accuracy(probabilities, truth, table["group"].to_numpy(object))
    return {**score(probabilities, truth), "group_accuracy": by_group}


@dataclass(frozen=True)
class Disagreement:
    """Where two models predict differently."""

    rows: int
    only_first: int  # of them only the first model has correct
    only_second: int
    examples: list[Any]  # text, label, first and second class; one is correct, the most confident first
    difference: Difference  # of the accuracies on all rows


def find_disagreement(
    first: pd.DataFrame, second: pd.DataFrame, labels: Sequence[str], *, examples: int, seed: int
) -> Disagreement:
    """Compare two tables of predictions of the same rows in the same order; the seed is that of the bootstrap."""
    left, right = (table[list(labels)].to_numpy(np.float64) for table in (first, second))  # (R, C)
    truth, one, other = first["label"], left.argmax(1), right.argmax(1)  # (R,)
    table = first[["text", "label"]].assign(first=one, second=other)
    differ = table.assign(confidence=np.minimum(left.max(1), right.max(1)))[one != other]
    first_correct, second_correct = differ["first"] == differ["label"], differ["second"] == differ["label"]
    decided = differ[first_correct | second_correct].sort_values("confidence", ascending=False, kind="stable")
    shown = decided[list(table)].drop_duplicates("text").head(examples)
    return Disagreement(
        rows=len(differ),
        only_first=int(first_correct.sum()),
        only_second=int(second_correct.sum()),
        examples=list(shown.itertuples(index=False)),
        difference=compare_accuracy(truth == one, truth == other, first["group"], seed=seed),
    )
