"""A submission: known truth, the competition's own form, and the check before it is uploaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyarrow import compute

from unroll.core.errors import UnrollError
from unroll.data.competition import CLASSES, Competition, SubmissionColumns
from unroll.data.rows import NUMBER
from unroll.data.tables import TextFile, find_text_file

Floats = npt.NDArray[np.floating[Any]]


def find_known_truth(train_texts: Sequence[str], truth: Floats, texts: Sequence[str]) -> Floats:
    """Look up texts, letter for letter, in the training part.

    Args:
        train_texts: (N,).
        truth: of each, (N, K).
        texts: (R,).

    Returns:
        The truth of each text that the training part has with one truth only, NaN for any other, (R, K).
    """
    table = pd.DataFrame(truth).groupby(pd.Series(train_texts, dtype=object), sort=False)
    known = table.first().where(table.nunique().max(axis=1) == 1)
    return known.reindex(list(texts)).to_numpy(np.float64)


def read_sample(task: Competition, folder: Path, ids: pd.Series) -> pd.DataFrame:
    """Return the sample submission as texts, (R rows of the test part); without a file, one made of the test ids.

    Raises:
        UnrollError: the file is missing or damaged, or its columns or ids do not fit the test part.
    """
    names = list(_columns_of(task)) if isinstance(task.form, SubmissionColumns) else _usual_columns(task)
    if task.sample is None:
        return pd.DataFrame({task.id or "id": ids.to_numpy()}).assign(**dict.fromkeys(names, ""))
    file = find_text_file(folder, task.sample, task.csv)
    header = file.read_header()
    table = file.read_columns(header)
    expected = [*([] if task.id is None else [task.id]), *names]
    if missing := [name for name in expected if name not in header]:
        raise UnrollError(
            f"{file.path}: line 1: expected the columns {', '.join(expected)}, found {', '.join(header)[:200]}; set id "
            f"or submission in competitions/{task.name}.yaml ({missing[0]} is missing)"
        )
    if task.id is not None:
        is_id = pa.array(table[task.id].to_pandas().isin(ids))
        file.check(task.id, table[task.id], is_id, f"an id of {task.test}")
        file.check(task.id, table[task.id], pa.array(~table[task.id].to_pandas().duplicated()), "each id once")
    if len(table) != len(ids):
        raise UnrollError(f"{file.path}: found {len(table):,} rows, expected {len(ids):,}, one for each test row")
    return pd.DataFrame({name: table[name].to_pandas() for name in header})


def _usual_columns(task: Competition) -> list[str]:
    """Return the columns of predictions of a form that names none."""
    return list(task.outputs) if task.form == "probabilities" else list(task.target.columns)


def _columns_of(task: Competition) -> dict[str, int]:
    """Return the number of the output that each column of the submission holds, of a form that names them."""
    if not isinstance(task.form, SubmissionColumns):
        return {}
    for column, output in task.form.columns.items():
        if output not in task.outputs:
            expected = ", ".join(task.outputs[:20])
            raise UnrollError(f"submission.columns.{column}: found {output!r}, expected one of {expected}")
    return {column: task.outputs.index(output) for column, output in task.form.columns.items()}


def make_submission(
    task: Competition, sample: pd.DataFrame, ids: pd.Series, predictions: Floats, decided: Floats
) -> pd.DataFrame:
    """Put predictions into the sample submission, whose rows, order and other columns stay.

    Args:
        task: names the columns and the form.
        sample: as of read_sample, (R rows).
        ids: of the rows predicted, (R,).
        predictions: the outputs, (R, P).
        decided: what was decided from them, (R, K).

    Returns:
        The submission as texts.
    """
    rows = np.arange(len(ids))
    if task.id is not None:
        rows = pd.Index(ids).get_indexer(sample[task.id])
    columns: dict[str, Sequence[str]] = {}
    if isinstance(task.form, SubmissionColumns):
        columns = {name: _as_texts(predictions[rows, number]) for name, number in _columns_of(task).items()}
    elif task.form == "probabilities":
        columns = dict(zip(task.outputs, map(_as_texts, predictions[rows].T), strict=True))
    elif task.form == "positive":
        columns = {task.target.columns[0]: _as_texts(predictions[rows, task.positive_class])}
    elif task.form == "label" and task.kind in CLASSES:
        columns = {task.target.columns[0]: [task.outputs[number] for number in decided[rows, 0].astype(int)]}
    elif task.form == "label":
        columns = {name: [f"{value:.0f}" for value in decided[rows, place]] for place, name in enumerate(task.outputs)}
    else:
        values = (predictions @ task.levels)[:, None] if task.kind == "ordinal" else predictions
        columns = dict(zip(task.target.columns, map(_as_texts, values[rows].T), strict=True))
    return sample.assign(**columns)


def _as_texts(values: Floats) -> list[str]:
    return [f"{value:.9g}" for value in values.tolist()]


def check_submission(task: Competition, path: Path, sample: pd.DataFrame) -> pd.DataFrame:
    """Check a file that is about to be uploaded against the sample submission, as of read_sample.

    Returns:
        The columns of predictions, as texts.

    Raises:
        UnrollError: the columns, the rows or their order are not those of the sample submission, or a prediction is
            missing or not possible.
    """
    file, columns = TextFile(path, path.name), list(map(str, sample))
    header = file.read_header()
    if header != columns:
        raise UnrollError(f"{path}: line 1: found the columns {', '.join(header)}, expected {', '.join(columns)}")
    table = file.read_columns(columns)
    if len(table) != len(sample):
        raise UnrollError(f"{path}: found {len(table):,} rows, expected {len(sample):,} as in the sample submission")
    predicted = list(_columns_of(task)) if isinstance(task.form, SubmissionColumns) else _usual_columns(task)
    for name in columns:
        values = table[name]
        if name not in predicted:
            same = compute.equal(values, pa.array(sample[name], pa.large_string()))
            file.check(name, values, same, "what the sample submission has in this row")
        elif task.form == "label":
            labels = task.outputs if task.kind in CLASSES else ("0", "1")
            is_label = compute.is_in(values, value_set=pa.array(labels, pa.large_string()))
            file.check(name, values, is_label, f"one of {', '.join(labels[:20])}")
        else:
            file.check(name, values, compute.match_substring_regex(values, NUMBER), "a number")
            if task.kind != "number" and task.form != "value":
                numbers = pd.to_numeric(values.to_pandas())
                file.check(name, values, pa.array(numbers.between(0, 1)), "a probability from 0 to 1")
    return pd.DataFrame({name: table[name].to_pandas() for name in predicted})
