"""A submission: known labels, the competition's format, and the check before it is uploaded."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyarrow import compute

from unroll.core.errors import UnrollError
from unroll.data.competition import UNLABELLED, Competition
from unroll.data.tables import TextFile


def find_known_labels(
    train_texts: Sequence[str], train_labels: npt.NDArray[np.int64], texts: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Look up texts, letter for letter, in the training part.

    Args:
        train_texts: (N,).
        train_labels: (N,).
        texts: (R,).

    Returns:
        The label of each text that the training part has with one label only, UNLABELLED for any other, (R,).
    """
    known: dict[str, int] = {}
    for text, label in zip(train_texts, train_labels.tolist(), strict=True):
        if known.setdefault(text, label) != label:
            known[text] = UNLABELLED
    return np.array([known.get(text, UNLABELLED) for text in texts], dtype=np.int64)


def make_submission(
    task: Competition, row_ids: pd.Series, classes: npt.NDArray[np.int64], wanted: pd.Series
) -> pd.DataFrame:
    """Put predictions in the order of the sample submission.

    Args:
        task: names the columns and the labels.
        row_ids: the rows predicted, (R,).
        classes: predicted class of each, (R,).
        wanted: ids of the sample submission, in its order, (R,).

    Returns:
        The id column and the label column, a row for each wanted id.

    Raises:
        UnrollError: an id is predicted twice, not at all, or not wanted.
    """
    predicted = pd.Series(classes, index=row_ids.to_numpy())
    differ = predicted.index[predicted.index.duplicated()].union(predicted.index.symmetric_difference(wanted.tolist()))
    if len(differ):
        raise UnrollError(f"{task.id} {differ[0]}: not predicted once, as in the sample submission ({len(differ)} ids)")
    labels = np.array(task.labels, dtype=object)[predicted.loc[wanted].to_numpy()]
    return pd.DataFrame({task.id: wanted.to_numpy(), task.label_column: labels})


def check_submission(task: Competition, path: Path, wanted: pd.Series) -> pd.Series:
    """Check a file that is about to be uploaded.

    Args:
        task: names the columns and the labels.
        path: the file.
        wanted: ids of the sample submission, in its order, (R,).

    Returns:
        The predicted labels, (R,).

    Raises:
        UnrollError: the columns, the ids or their order are not those of the sample submission, a prediction is
            missing or not a label, or all predictions are the same.
    """
    file, columns = TextFile(path, path.name), [task.id, task.label_column]
    header = file.read_header()
    if header != columns:
        raise UnrollError(f"{path}: line 1: found the columns {', '.join(header)}, expected {', '.join(columns)}")
    table = file.read_columns(columns)
    if len(table) != len(wanted):
        raise UnrollError(f"{path}: found {len(table):,} rows, expected {len(wanted):,} as in the sample submission")
    ids, labels = table[task.id], table[task.label_column]
    file.check(task.id, ids, compute.equal(ids, pa.array(wanted.astype(str))), "the id of the sample submission's row")
    is_label = compute.is_in(labels, value_set=pa.array(task.labels, pa.large_string()))
    file.check(task.label_column, labels, is_label, f"one of {', '.join(task.labels)}")
    answers: pd.Series = labels.to_pandas()
    if answers.nunique() == 1:
        raise UnrollError(f"{path}: all predictions are {answers[0]!r}; refusing a constant submission")
    return answers
