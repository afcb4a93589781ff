"""A submission: known truth, the competition's own form, and the check before it is uploaded."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyarrow import compute

from unroll.core.errors import UnrollError
from unroll.data.competition import CLASSES, Competition, SubmissionColumns
from unroll.data.rows import NUMBER, TEST, TRAIN, truth_of
from unroll.data.tables import TextFile, find_text_file

Floats = npt.NDArray[np.floating[Any]]


def find_known_truth(task: Competition, rows: pd.DataFrame) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Look up the texts of the test part, letter for letter, in the training part of a table of rows.

    Returns:
        The truth of each test row whose text has one truth only, NaN for any other, (R, K); where it is known, (R,).
    """
    train, test = rows[rows["part"] == TRAIN], rows[rows["part"] == TEST]
    table = pd.DataFrame(truth_of(train, task)).groupby(train["text"].to_numpy(object), sort=False)
    found = table.first().where(table.nunique().max(axis=1) == 1).reindex(test["text"].to_numpy(object))
    truth = found.to_numpy(np.float64)
    return truth, np.isfinite(truth).all(1)


def read_sample(task: Competition, folder: Path, ids: pd.Series) -> pd.DataFrame:
    """Return the sample submission as texts, (R rows of the test part); without a file, one made of the test ids.

    Raises:
        UnrollError: the file is missing or damaged, or its columns or ids do not fit the test part.
    """
    names = prediction_columns(task)
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
        file.check(task.id, table[task.id], pa.array(~table[task.id].to_pandas().duplicated()), "a unique id")
    if len(table) != len(ids):
        raise UnrollError(f"{file.path}: found {len(table):,} rows, expected {len(ids):,}, one for each test row")
    return pd.DataFrame({name: table[name].to_pandas() for name in header})


def prediction_columns(task: Competition) -> list[str]:
    """Return the submission's columns of predictions."""
    if isinstance(task.form, SubmissionColumns):
        return list(task.form.columns)
    return list(task.outputs) if task.form == "probabilities" else list(task.target.columns)


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
    if isinstance(task.form, SubmissionColumns):
        values = predictions[:, [task.outputs.index(output) for output in task.form.columns.values()]]
    elif task.form == "positive":
        values = predictions[:, [task.positive_class]]
    elif task.form == "value" and task.kind == "ordinal":
        values = (predictions @ task.levels)[:, None]
    else:
        values = decided if task.form == "label" else predictions
    if task.form == "label" and task.kind in CLASSES:
        texts = np.array(task.outputs, dtype=object)[values.astype(int)]
    else:
        texts = np.array([[f"{value:.9g}" for value in row] for row in values.tolist()], dtype=object)
        texts = texts.reshape(values.shape)  # which an array of no rows does not have by itself
    return sample.assign(**dict(zip(prediction_columns(task), texts[rows].T, strict=True)))


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
    predicted = prediction_columns(task)
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
