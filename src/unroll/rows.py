"""Raw files as one table of rows, schema checked; every mistake in them is named by file and line."""

import csv
import io
import unicodedata
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pandera

from unroll.errors import UnrollError
from unroll.files import check_archive
from unroll.splits import assign_folds, choose_test_rows
from unroll.tasks import LabelledFolder, TableFiles, Task

TRAIN, TEST = "train", "test"
UNLABELLED = -1

ROWS_SCHEMA = pandera.DataFrameSchema(
    {
        "row_id": pandera.Column("int64", unique=True),
        "group": pandera.Column(str),
        "text": pandera.Column(str),
        "label": pandera.Column("int64", pandera.Check.ge(UNLABELLED)),
        "part": pandera.Column(str, pandera.Check.isin([TRAIN, TEST])),
        "fold": pandera.Column("int64", pandera.Check.ge(-1)),
    },
    strict=True,
    ordered=True,
)


def read_rows(task: Task, folder: Path, *, folds: int, test_share: float, seed: int) -> pd.DataFrame:
    """Read a task's raw files into one table, the training part before the test part.

    Args:
        task: says which files there are and what their columns mean.
        folder: holds the raw files.
        folds: number of folds of the training part.
        test_share: share of rows kept back as the test part, for a task that has no test file.
        seed: of both splits.

    Returns:
        Columns of ROWS_SCHEMA: row_id, group, text, label (-1 where it is not known), part ("train" or "test") and
        fold (0 to folds - 1, -1 in the test part). No group crosses parts or folds.

    Raises:
        UnrollError: a file is missing, empty or damaged, or a row is not as the task says.
    """
    if isinstance(task.files, TableFiles):
        rows = _read_tables(task, task.files, folder)
    else:
        rows = _read_labelled_folder(task, task.files, folder)
        labels, groups = rows["label"].to_numpy(), rows["group"].to_numpy(object)
        rows["part"] = np.where(choose_test_rows(labels, groups, test_share, seed), TEST, TRAIN)
        rows = rows.sort_values("part", ascending=False, kind="stable", ignore_index=True)
    train = (rows["part"] == TRAIN).to_numpy()
    fold = np.full(len(rows), -1, dtype=np.int64)
    fold[train] = assign_folds(rows["label"].to_numpy()[train], rows["group"].to_numpy(object)[train], folds, seed)
    rows["fold"] = fold
    return ROWS_SCHEMA.validate(rows[list(ROWS_SCHEMA.columns)])


def raw_file(folder: Path, name: str) -> Path:
    """Return the path of a raw file, plain or zipped as `<name>.zip`.

    Raises:
        UnrollError: neither is there.
    """
    for path in (folder / name, folder / f"{name}.zip"):
        if path.is_file():
            return path
    raise UnrollError(f"{folder / name}: no such file, and no {name}.zip beside it")


def read_raw_text(folder: Path, name: str) -> tuple[Path, str]:
    """Return the path and the text of a raw file, unzipped where it is served zipped.

    Raises:
        UnrollError: the file is missing, empty, not UTF-8, or a zip archive that is damaged or lacks it.
    """
    path = raw_file(folder, name)
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                if name not in archive.namelist():
                    raise UnrollError(
                        f"{path}: expected {name} inside, found {', '.join(archive.namelist()) or 'nothing'}"
                    )
                check_archive(archive, path)
                content = archive.read(name)
        else:
            content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise UnrollError(f"{path}: not a whole zip archive ({error}); download it again") from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UnrollError(f"{path}: line {line}: byte {content[error.start]:#04x} is not UTF-8") from None
    if not text.strip():
        raise UnrollError(f"{path}: the file is empty")
    return path, text


def read_sample_submission(task: Task, folder: Path) -> pd.Series:
    """Read the ids that the competition wants answered, in its order.

    Raises:
        UnrollError: the file is missing or damaged, or has other columns than the task says.
    """
    if not isinstance(task.files, TableFiles):
        raise UnrollError(f"task {task.name}: has no sample submission")
    columns = [task.id_column, task.label_column]
    path, table = _read_table(folder, task.files.sample_submission, ",", columns)
    return _ids(path, table, task.id_column)


def _read_tables(task: Task, files: TableFiles, folder: Path) -> pd.DataFrame:
    columns = [files.row_id, files.group, files.text]
    train_path, train = _read_table(folder, files.train, files.separator, [*columns, files.label])
    test_path, test = _read_table(folder, files.test, files.separator, columns)
    in_labels = pandera.Check.isin(task.labels, error=f"one of {', '.join(task.labels)}")
    _check_rows(train_path, train, {files.label: pandera.Column(str, in_labels)})
    labels = pd.Index(task.labels).get_indexer(pd.Index(train[files.label])).astype(np.int64)
    parts = []
    for path, table, part_labels, part in (
        (train_path, train, labels, TRAIN),
        (test_path, test, np.full(len(test), UNLABELLED), TEST),
    ):
        values = {"row_id": _ids(path, table, files.row_id), "group": table[files.group], "text": table[files.text]}
        parts.append(pd.DataFrame(values).assign(label=part_labels, part=part))
    rows = pd.concat(parts, ignore_index=True)
    repeated = rows["row_id"].duplicated()
    if repeated.any():
        row = int(np.flatnonzero(repeated)[0])
        raise UnrollError(
            f"{test_path}: line {row - len(train) + 2}: {files.row_id} {rows['row_id'][row]} stands in "
            f"{train_path.name} too; ids must differ"
        )
    shared = set(train[files.group]) & set(test[files.group])
    if shared:
        raise UnrollError(
            f"{test_path}: {files.group} {min(shared)} stands in {train_path.name} too; its groups must differ"
        )
    wanted = read_sample_submission(task, folder)
    _check_sample(raw_file(folder, files.sample_submission), wanted, rows.loc[rows["part"] == TEST, "row_id"], files)
    return rows


def _check_sample(path: Path, wanted: pd.Series, test_ids: pd.Series, files: TableFiles) -> None:
    for ids, others, found, right in (
        (test_ids, wanted, f"stands in {files.test} but not here", "every test row needs a line"),
        (wanted, test_ids, f"is not in {files.test}", "every line needs a test row"),
    ):
        missing = ids[~ids.isin(others)]
        if len(missing):
            raise UnrollError(f"{path}: {files.row_id} {missing.iloc[0]} {found} ({len(missing)} such ids); {right}")


def _read_table(folder: Path, name: str, separator: str, columns: Sequence[str]) -> tuple[Path, pd.DataFrame]:
    path, text = read_raw_text(folder, name)
    text = text.replace("\r\n", "\n")
    header, *lines = text.removesuffix("\n").split("\n")
    if header.split(separator) != list(columns):
        found = ", ".join(header.split(separator))
        raise UnrollError(f"{path}: line 1: expected the columns {', '.join(columns)}, found {found}")
    if not lines:
        raise UnrollError(f"{path}: has a header and no rows")
    for number, line in enumerate(lines, start=2):
        if line.count(separator) != len(columns) - 1:
            fields = line.count(separator) + 1
            raise UnrollError(f"{path}: line {number}: expected {len(columns)} fields, found {fields}")
    table = pd.read_csv(
        io.StringIO(text),
        sep=separator,
        lineterminator="\n",
        quoting=csv.QUOTE_NONE,
        dtype=str,
        keep_default_na=False,  # the word "None" is a phrase, not a missing value
        skip_blank_lines=False,
    )
    return path, table


def _ids(path: Path, table: pd.DataFrame, column: str) -> pd.Series:
    whole_number = pandera.Check.str_matches(r"^\d{1,18}$", error="a whole number")
    _check_rows(path, table, {column: pandera.Column(str, whole_number)})
    _check_rows(path, table, {column: pandera.Column(str, unique=True)})
    return table[column].astype("int64")


def _check_rows(path: Path, table: pd.DataFrame, columns: dict[str, pandera.Column]) -> None:
    try:
        pandera.DataFrameSchema(columns).validate(table, lazy=True)
    except pandera.errors.SchemaErrors as errors:
        first = errors.failure_cases.sort_values("index", kind="stable").iloc[0]
        expected = "a value that stands once" if "unique" in str(first["check"]) else first["check"]
        raise UnrollError(
            f"{path}: line {int(first['index']) + 2}: {first['column']}: found {first['failure_case']!r}, "
            f"expected {expected}"
        ) from None


def _read_labelled_folder(task: Task, files: LabelledFolder, folder: Path) -> pd.DataFrame:
    names = folder / files.folder
    if not names.is_dir():
        raise UnrollError(f"{names}: no such folder")
    unknown = sorted(path.name for path in names.iterdir() if path.name not in _file_names(task, files))
    if unknown:
        raise UnrollError(f"{names / unknown[0]}: not a label of {task.name}; expected {', '.join(task.labels)}")
    texts: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(_file_names(task, files)):
        _, content = read_raw_text(names, name)
        lines = [line.strip() for line in content.splitlines()]
        texts += [line for line in lines if line]
        labels += [label] * (len(texts) - len(labels))
    table = pd.DataFrame({"text": texts, "label": np.array(labels, dtype=np.int64)})
    table["row_id"] = np.arange(1, len(table) + 1)
    # Two spellings of one name that differ in case or in how accents are composed are one name.
    table["group"] = [unicodedata.normalize("NFC", text).casefold() for text in texts]
    return table


def _file_names(task: Task, files: LabelledFolder) -> list[str]:
    return [f"{label}{files.suffix}" for label in task.labels]
