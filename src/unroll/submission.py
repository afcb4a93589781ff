"""A submission in the competition's exact format, checked before it is written."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from unroll.errors import UnrollError
from unroll.tasks import Task


def make_submission(task: Task, row_ids: pd.Series, classes: npt.NDArray[np.int64], wanted: pd.Series) -> pd.DataFrame:
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
        raise UnrollError(f"{task.id_column} {answers.index[answers.index.duplicated()][0]}: answered more than once")
    missing, surplus = set(wanted) - set(answers.index), set(answers.index) - set(wanted)
    if missing:
        raise UnrollError(f"{task.id_column} {min(missing)}: has no answer ({len(missing)} such ids of {len(wanted)})")
    if surplus:
        raise UnrollError(f"{task.id_column} {min(surplus)}: answered, but the sample submission does not ask for it")
    if len(classes) and not (classes.min() >= 0 and classes.max() < len(task.labels)):
        raise UnrollError(f"{task.label_column}: an answer is outside the task's {len(task.labels)} labels")
    labels = np.array(task.labels, dtype=object)[answers.loc[wanted].to_numpy()]
    return pd.DataFrame({task.id_column: wanted.to_numpy(), task.label_column: labels})
