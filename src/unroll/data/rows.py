"""The rows of a task: raw files as one table with parts and folds, every mistake named by file and line."""

import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyarrow import compute

from unroll.core.errors import UnrollError
from unroll.data.competition import UNLABELLED, Competition
from unroll.data.splits import assign_folds, choose_test_rows
from unroll.data.tables import TextFile, find_text_file, served_names

TRAIN, TEST = "train", "test"
TEST_FOLD = -1
SYSTEM_FILES = ("desktop.ini", "thumbs.db")  # what operating systems put into folders
ROWS_SCHEMA = pa.schema(
    [
        ("row_id", pa.int64()),  # unique
        ("group", pa.large_string()),  # no group crosses folds
        ("text", pa.large_string()),
        ("label", pa.int64()),  # UNLABELLED where it is not known
        ("part", pa.large_string()),  # TRAIN or TEST
        ("fold", pa.int64()),  # TEST_FOLD in the test part
    ]
)


def read_rows(task: Competition, folder: Path, *, folds: int, test_share: float, seed: int) -> pd.DataFrame:
    """Read a task's raw files into one table in memory, about 100 bytes a row beside the texts.

    Args:
        task: says which files there are and what their columns mean.
        folder: holds the raw files.
        folds: number of folds of the training part.
        test_share: share of rows held out as the test part, for a task that has no test file.
        seed: of both splits.

    Returns:
        Columns of ROWS_SCHEMA, the training part first.

    Raises:
        UnrollError: a file is missing, empty or damaged, or a row is not as the task says.
    """
    if task.is_folder_of_labels:
        rows = _read_label_files(task, folder)
        labels, groups = rows["label"].to_numpy(), _rank(rows["group"])
        is_test = choose_test_rows(labels, groups, test_share, seed)
        rows = rows.take(pa.array(np.argsort(is_test, kind="stable")))
    else:
        rows, is_test = _read_tables(task, folder)
    is_train = np.sort(~is_test)[::-1]
    train = rows.slice(0, int(is_train.sum()))
    fold = np.full(len(rows), TEST_FOLD, dtype=np.int64)
    fold[is_train] = assign_folds(train["label"].to_numpy(), _rank(train["group"]), folds, seed)
    rows = rows.append_column("part", pa.array(np.where(is_train, TRAIN, TEST), pa.large_string()))
    frame: pd.DataFrame = rows.append_column("fold", pa.array(fold)).cast(ROWS_SCHEMA).to_pandas()
    return frame


def _read_tables(task: Competition, folder: Path) -> tuple[pa.Table, npt.NDArray[np.bool_]]:
    """Return the rows of the training and the test file, and which ones are test rows, (N,)."""
    train_file, test_file = find_text_file(folder, task.train), find_text_file(folder, str(task.test))
    train, test = _read_part(task, train_file, is_train=True), _read_part(task, test_file, is_train=False)
    for column, key in ((task.id, "row_id"), (task.group, "group")):
        if column is not None:
            is_new = compute.invert(compute.is_in(test[key], value_set=train[key].combine_chunks()))
            expected = f"a value that {train_file.path.name} does not have"
            test_file.check(column, test[key], is_new, expected)
    wanted, ids = read_sample_submission(task, folder), test["row_id"].to_pandas()
    if len(other := pd.concat([ids, wanted]).drop_duplicates(keep=False)):
        sample = find_text_file(folder, str(task.sample)).path
        problem = f"{task.id} {other.iloc[0]} is in one of the two only ({len(other):,} such ids)"
        raise UnrollError(f"{sample}: expected the ids of {task.test}, each once; {problem}")
    return pa.concat_tables([train, test]), np.arange(len(train) + len(test)) >= len(train)


def _read_part(task: Competition, file: TextFile, *, is_train: bool) -> pa.Table:
    names = [task.id, task.text[0], *([task.group] if task.group else []), *([task.label_column] if is_train else [])]
    table = file.read_columns(names)
    labels: pa.ChunkedArray = pa.array(np.full(len(table), UNLABELLED))
    if is_train:
        found = compute.index_in(table[task.label_column], value_set=pa.array(task.labels, pa.large_string()))
        file.check(task.label_column, table[task.label_column], found.is_valid(), f"one of {', '.join(task.labels)}")
        labels = found.cast(pa.int64())
    texts = table[task.text[0]]
    groups = table[task.group] if task.group else pa.chunked_array(map(_fold_case, texts.chunks), pa.large_string())
    return pa.table([_read_ids(file, table[task.id], task.id), groups, texts, labels], list(ROWS_SCHEMA.names[:4]))


def _read_ids(file: TextFile, texts: pa.ChunkedArray, column: str) -> pa.ChunkedArray:
    """Return whole numbers that differ, (N,)."""
    is_number = compute.match_substring_regex(texts, "^[0-9]{1,18}$")
    file.check(column, texts, is_number, "a whole number")
    ids = texts.cast(pa.int64())
    values = np.sort(ids.to_numpy())
    if (values[1:] == values[:-1]).any():
        file.check(column, texts, pa.array(~ids.to_pandas().duplicated()), "a value that no earlier row has")
    return ids


def read_sample_submission(task: Competition, folder: Path) -> pd.Series:
    """Return the ids that a submission needs, in the order of the sample submission, (R,).

    Raises:
        UnrollError: the file is missing or damaged, or has other columns than the task says.
    """
    if task.is_folder_of_labels:
        raise UnrollError(f"task {task.name}: has no sample submission")
    file = find_text_file(folder, str(task.sample))
    table = file.read_columns([task.id, task.label_column])
    ids: pd.Series = _read_ids(file, table[task.id], task.id).to_pandas()
    return ids.rename(task.id)


def raw_file_names(task: Competition) -> list[str]:
    """Return the paths of a task's raw files below its folder: its tables, or one file for each label, (C,)."""
    if not task.is_folder_of_labels:
        return [task.train, str(task.test), str(task.sample)]
    return [task.train.replace("*", label) for label in task.labels]


def find_raw_files(task: Competition, folder: Path) -> list[Path]:
    """Return a task's raw files as they are in its folder, plain or zipped, in the order of raw_file_names.

    Raises:
        UnrollError: one is missing, or there is a file that belongs to no label.
    """
    names = raw_file_names(task)
    if task.is_folder_of_labels:
        inside = (folder / task.train).parent
        if not inside.is_dir():
            raise UnrollError(f"{inside}: no such folder; expected one {Path(task.train).suffix} file a label in it")
        served = {other for name in names for other in served_names(Path(name).name)}
        for name in sorted(path.name for path in inside.iterdir()):
            if name not in served and not name.startswith(".") and name.lower() not in SYSTEM_FILES and name[-1] != "~":
                raise UnrollError(f"{inside / name}: not a label of {task.name}; expected {', '.join(task.labels)}")
    return [find_text_file(folder, name).path for name in names]


def _read_label_files(task: Competition, folder: Path) -> pa.Table:
    texts: list[str] = []
    labels: list[int] = []
    for label, (path, name) in enumerate(zip(find_raw_files(task, folder), raw_file_names(task), strict=True)):
        lines = [line.strip() for line in TextFile(path, Path(name).name).read_lines()]
        texts += [line for line in lines if line]
        labels += [label] * (len(texts) - len(labels))
    column = pa.chunked_array([texts], pa.large_string())
    return pa.table([np.arange(1, len(texts) + 1), _fold_case(column), column, labels], list(ROWS_SCHEMA.names[:4]))


def _rank(values: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Number texts by their place among the different ones in ascending order, (N,)."""
    return np.asarray(pd.factorize(values.to_pandas(), sort=True)[0], dtype=np.int64)


def _fold_case(texts: Iterable[pa.Scalar]) -> pa.Array:
    """Return texts so that two that differ in case, or in how accents are composed, are equal, (N,)."""
    folded = [unicodedata.normalize("NFC", text.as_py()).casefold() for text in texts]
    return pa.array(folded, pa.large_string())
