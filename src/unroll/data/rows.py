"""The rows of a task: raw files as one table with parts and folds, every mistake named by file and line."""

import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
from pyarrow import compute

from unroll.core.errors import UnrollError
from unroll.core.files import new_file, read_json
from unroll.data.competition import CLASSES, Competition, Join, load_competition
from unroll.data.splits import assign_folds, choose_test_rows
from unroll.data.tables import TextFile, find_text_file, served_names
from unroll.data.texts import join_columns

TRAIN, TEST = "train", "test"
TEST_FOLD = -1
SOURCE_RECORD = "source.json"  # beside raw files: their origin, sizes and sha256
TRUTH, PREDICTED = "true:", "predicted:"  # before the names of columns, which may be any
SYSTEM_FILES = ("desktop.ini", "thumbs.db")  # what operating systems put into folders
NUMBER = r"^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*$"
Floats = npt.NDArray[np.float64]


@contextmanager
def naming_source(folder: Path) -> Iterator[None]:
    """Let errors about raw files name the files that they were copied from, which a person can fix."""
    try:
        yield
    except UnrollError as error:
        record = folder / SOURCE_RECORD
        origin = Path(read_json(record)["origin"]) if record.is_file() else folder
        raise UnrollError(str(error).replace(str(folder), str(origin if origin.is_dir() else folder))) from None


def truth_of(table: pd.DataFrame, task: Competition) -> Floats:
    """Return the truth in a table of rows or predictions, (R, K): classes, 0 or 1, or numbers; NaN is unknown."""
    return table[[TRUTH + column for column in task.target.columns]].to_numpy(np.float64, copy=True)


def predictions_of(table: pd.DataFrame, task: Competition) -> Floats:
    """Return the outputs in a table of predictions, (R, P)."""
    return table[[PREDICTED + output for output in task.outputs]].to_numpy(np.float64, copy=True)


def predictions_table(predictions: npt.NDArray[np.floating], task: Competition) -> pd.DataFrame:
    """Return predictions, (R, P), as the columns of a table."""
    return pd.DataFrame(predictions, columns=[PREDICTED + output for output in task.outputs])


def write_rows(rows: pd.DataFrame, task: Competition, path: Path) -> None:
    """Write a table of rows as parquet, with the labels, some of which only the training file may name."""
    table = pa.Table.from_pandas(rows, preserve_index=False)
    with new_file(path) as scratch:
        labels = {"labels": json.dumps(task.target.labels)}
        parquet.write_table(table.replace_schema_metadata(labels), scratch, row_group_size=1 << 17)


def load_task(definition: Path, rows: Path) -> Competition:
    """Return a task's definition, with the labels of its table of rows if it names none.

    Raises:
        UnrollError: the definition is not right, or there is no such table.
    """
    task = load_competition(definition)
    if task.kind not in CLASSES or task.target.labels is not None:
        return task
    if not rows.is_file():
        raise UnrollError(f"{rows}: no such file; run the stage that writes it (dvc repro)")
    return task.with_labels(tuple(json.loads(parquet.read_schema(rows).metadata[b"labels"])))


def read_rows(
    task: Competition, folder: Path, *, folds: int, test_share: float, seed: int
) -> tuple[Competition, pd.DataFrame]:
    """Read a task's raw files into one table in memory, about 100 bytes a row beside the texts.

    Args:
        task: says which files there are and what their columns mean.
        folder: holds the raw files.
        folds: number of folds of the training part.
        test_share: share of rows held out as the test part, for a task that has no test file.
        seed: of both splits.

    Returns:
        The definition with all labels, and the table, the training part first: row_id (its number), id (as in the
        file), group (no group crosses folds), text, part (TRAIN or TEST), fold (TEST_FOLD in the test part), and the
        truth in K columns, NaN where it is not known.

    Raises:
        UnrollError: a file is missing, empty or damaged, or a row is not as the task says.
    """
    if task.is_folder_of_labels:
        rows = _read_label_files(task, folder)
    else:
        train_file = find_text_file(folder, task.train, task.csv)
        task, rows = _read_part(task, folder, train_file, is_train=True)
    if task.test is None:
        is_test = choose_test_rows(_strata(rows, task), pd.factorize(rows["group"], sort=True)[0], test_share, seed)
        rows = rows.iloc[np.argsort(is_test, kind="stable")]
        is_test = np.sort(is_test)
    else:
        test_file = find_text_file(folder, task.test, task.csv)
        _, test = _read_part(task, folder, test_file, is_train=False)
        if task.id is not None:
            is_new = pa.array(~test["id"].isin(rows["id"]).to_numpy())
            test_file.check(task.id, test["id"], is_new, f"a value that {train_file.path.name} does not have")
        is_test = np.arange(len(rows) + len(test)) >= len(rows)
        rows = pd.concat([rows, test])
    fold = np.full(len(rows), TEST_FOLD, dtype=np.int64)
    train = rows[~is_test]
    fold[~is_test] = assign_folds(_strata(train, task), pd.factorize(train["group"], sort=True)[0], folds, seed)
    rows = rows.reset_index(drop=True).assign(part=np.where(is_test, TEST, TRAIN), fold=fold)
    rows.insert(0, "row_id", np.arange(len(rows)))
    return task, rows


def _strata(rows: pd.DataFrame, task: Competition) -> npt.NDArray[np.int64]:
    """Return what folds are balanced by, (R,): the class, the combination of labels, or the decile of the mean."""
    truth = truth_of(rows, task)
    if task.kind == "number":
        ranks = pd.Series(truth.mean(1)).rank(method="first")
        return np.asarray((ranks - 1) * 10 // len(ranks), dtype=np.int64)
    return np.asarray(pd.DataFrame(truth).groupby(list(range(truth.shape[1]))).ngroup(), dtype=np.int64)


def _read_part(task: Competition, folder: Path, file: TextFile, *, is_train: bool) -> tuple[Competition, pd.DataFrame]:
    """Return the definition with all labels, and the rows of a file."""
    wanted = [*task.text, *filter(None, [task.id, task.group]), *(task.target.columns if is_train else ())]
    joined = [name for name in dict.fromkeys(wanted) if task.join is not None and name in task.join.columns]
    own = [name for name in dict.fromkeys(wanted) if name not in joined]
    if task.join is not None:
        own = list(dict.fromkeys([*own, task.join.on]))
    table = file.read_columns(own)
    columns = {name: table[name] for name in own}
    if task.join is not None:
        columns |= _read_joined(task, task.join, folder, file, table[task.join.on], joined)
    size = len(table)
    if task.id is not None:
        ids = columns[task.id]
        file.check(task.id, ids, pa.array(~ids.to_pandas().duplicated()), "a unique value; an earlier row has the same")
    else:
        ids = pa.chunked_array([[str(number) for number in range(1, size + 1)]], pa.large_string())
    texts = pd.Series(join_columns(columns[name].to_pylist() for name in task.text))
    groups = columns[task.group].to_pandas() if task.group else pd.Series(_fold_case(texts))
    rows = pd.DataFrame({"id": ids.to_pandas(), "group": groups, "text": texts})
    if not is_train:
        return task, rows.assign(**dict.fromkeys([TRUTH + name for name in task.target.columns], np.nan))
    if task.kind in CLASSES and task.target.labels is None:
        task = task.with_labels(_find_labels(file, task.target.columns[0], columns[task.target.columns[0]]))
    for name in task.target.columns:
        rows[TRUTH + name] = _read_truth(task, file, name, columns[name])
    return task, rows


def _read_truth(task: Competition, file: TextFile, column: str, values: pa.ChunkedArray) -> Floats:
    """Return the truth in a column, (R,)."""
    if task.kind in CLASSES:
        labels = task.outputs
        found = compute.index_in(values, value_set=pa.array(labels, pa.large_string()))
        shown = ", ".join(labels[:20]) + (", …" if len(labels) > 20 else "")
        file.check(column, values, found.is_valid(), f"one of {shown}")
        return np.asarray(found.to_numpy(), dtype=np.float64)
    file.check(column, values, compute.match_substring_regex(values, NUMBER), "a number")
    numbers = np.asarray(pd.to_numeric(values.to_pandas()), dtype=np.float64)
    if task.kind == "multilabel":
        file.check(column, values, pa.array((numbers == 0) | (numbers == 1)), "0 or 1")
    return numbers


def _find_labels(file: TextFile, column: str, values: pa.ChunkedArray) -> tuple[str, ...]:
    """Return the labels of a column in ascending order, numbers as numbers."""
    file.check(column, values, compute.not_equal(values, ""), "a label")
    labels: list[str] = compute.unique(values).to_pylist()
    if len(labels) < 2:
        raise UnrollError(f"{file.path}: {column}: found {labels[0]!r} in every row, expected two labels or more")
    try:
        return tuple(sorted(labels, key=float))
    except ValueError:
        return tuple(sorted(labels))


def _read_joined(
    task: Competition, join: Join, folder: Path, file: TextFile, keys: pa.ChunkedArray, columns: Sequence[str]
) -> dict[str, pa.ChunkedArray]:
    """Return columns of the joined table for each row, found by the row's key."""
    other = find_text_file(folder, join.file, task.csv)
    table = other.read_columns([join.on, *columns])
    is_first = pa.array(~table[join.on].to_pandas().duplicated())
    other.check(join.on, table[join.on], is_first, "a unique value; an earlier row has the same")
    places = compute.index_in(keys, value_set=table[join.on].combine_chunks())
    file.check(join.on, keys, places.is_valid(), f"a value that {other.path.name} has")
    return {name: table[name].take(places) for name in columns}


def raw_file_names(task: Competition) -> list[str]:
    """Return the paths of a task's raw files below its folder: its tables, or one file for each label, (C,)."""
    if task.is_folder_of_labels:
        return [task.train.replace("*", label) for label in task.outputs]
    return list(filter(None, [task.train, task.test, task.sample, task.join.file if task.join else None]))


def find_raw_files(task: Competition, folder: Path) -> list[Path]:
    """Return a task's raw files as they are in its folder, plain or in archives, each once.

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
                raise UnrollError(f"{inside / name}: not a label of {task.name}; expected {', '.join(task.outputs)}")
    return list(dict.fromkeys(find_text_file(folder, name, task.csv).path for name in names))


def _read_label_files(task: Competition, folder: Path) -> pd.DataFrame:
    find_raw_files(task, folder)
    texts, labels = list[str](), list[int]()
    for label, name in enumerate(raw_file_names(task)):
        lines = [line.strip() for line in find_text_file(folder, name, task.csv).read_lines()]
        texts += [line for line in lines if line]
        labels += [label] * (len(texts) - len(labels))
    ids = [str(number) for number in range(1, len(texts) + 1)]
    truth = np.array(labels, dtype=np.float64)
    return pd.DataFrame({"id": ids, "group": _fold_case(texts), "text": texts, TRUTH + task.target.columns[0]: truth})


def _fold_case(texts: Iterable[str]) -> list[str]:
    """Return texts so that two that differ in case, or in how accents are composed, are equal."""
    return [unicodedata.normalize("NFC", text).casefold() for text in texts]
