"""A submission in the competition's exact format, checked before it is written and again before it is sent."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from unroll.core.errors import UnrollError
from unroll.data.competition import Competition


def make_submission(
    task: Competition, row_ids: pd.Series, classes: npt.NDArray[np.int64], wanted: pd.Series
) -> pd.DataFrame:
    """Put the answers in the order that the competition wants.

    Args:
        task: names the columns and the labels.
        row_ids: the rows answered, (R,).
        classes: the answers, numbers of labels, (R,).
        wanted: ids of the sample submission, in its order, (R,).

    Returns:
        The id column and the label column, one line for each wanted id.

    Raises:
        UnrollError: an id is answered twice, not at all, or not wanted, or an answer is not a label.
    """
    answers = pd.Series(classes, index=row_ids.to_numpy())
    if not answers.index.is_unique:
        raise UnrollError(f"{task.id} {answers.index[answers.index.duplicated()][0]}: answered more than once")
    missing, surplus = set(wanted) - set(answers.index), set(answers.index) - set(wanted)
    if missing:
        raise UnrollError(f"{task.id} {min(missing)}: has no answer ({len(missing)} such ids of {len(wanted)})")
    if surplus:
        raise UnrollError(f"{task.id} {min(surplus)}: answered, but the sample submission does not ask for it")
    if len(classes) and not (classes.min() >= 0 and classes.max() < len(task.labels)):
        raise UnrollError(f"{task.label_column}: an answer is outside the task's {len(task.labels)} labels")
    labels = np.array(task.labels, dtype=object)[answers.loc[wanted].to_numpy()]
    return pd.DataFrame({task.id: wanted.to_numpy(), task.label_column: labels})


def check_submission(task: Competition, path: Path, wanted: pd.Series) -> pd.Series:
    """Check a file that is about to be sent.

    Args:
        task: names the columns and the labels.
        path: the file.
        wanted: ids of the sample submission, in its order, (R,).

    Returns:
        The labels answered, (R,).

    Raises:
        UnrollError: the columns, the ids or their order are not those of the sample submission, an answer is missing
            or outside the task's labels, or all answers are the same.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UnrollError(f"{path}: not readable as CSV ({' '.join(str(error).split())})") from None
    columns = [task.id, task.label_column]
    if list(table.columns) != columns:
        raise UnrollError(
            f"{path}: line 1: expected the columns {', '.join(columns)}, found {', '.join(map(str, table.columns))}"
        )
    if len(table) != len(wanted):
        raise UnrollError(f"{path}: expected {len(wanted):,} rows, as the sample submission has, found {len(table):,}")
    other = np.flatnonzero(table[task.id].to_numpy() != wanted.astype(str).to_numpy())
    if len(other):
        row = int(other[0])
        raise UnrollError(
            f"{path}: line {row + 2}: expected {task.id} {wanted.iloc[row]}, as in the sample submission, "
            f"found {table[task.id].iloc[row]!r}"
        )
    labels = table[task.label_column]
    strange = np.flatnonzero(~labels.isin(task.labels).to_numpy())
    if len(strange):
        row = int(strange[0])
        raise UnrollError(
            f"{path}: line {row + 2}: {task.label_column}: found {labels.iloc[row]!r}, expected one of "
            f"{', '.join(task.labels)}"
        )
    if labels.nunique() == 1:
        raise UnrollError(f"{path}: every answer is {labels.iloc[0]}; a model that says but one thing is a broken one")
    return labels
