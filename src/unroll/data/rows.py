"""Raw files as one table of rows, schema checked; every mistake in them is named by file and line."""

import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
from pyarrow import compute

from unroll.core.errors import UnrollError
from unroll.core.files import check_archive
from unroll.data.competition import UNLABELLED, Competition
from unroll.data.splits import assign_folds, choose_test_rows, count_labels, deal_groups

TRAIN, TEST = "train", "test"
BLOCK = 2**23  # bytes of a file that are read at a time
Ints = npt.NDArray[np.int64]

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


ROWS_ARROW = pa.schema(
    [
        ("row_id", pa.int64()),
        ("group", pa.large_string()),
        ("text", pa.large_string()),
        ("label", pa.int64()),
        ("part", pa.large_string()),
        ("fold", pa.int64()),
    ]
)


def read_rows(task: Competition, folder: Path, *, folds: int, test_share: float, seed: int) -> pd.DataFrame:
    """Read a task's raw files into one table; see stream_rows, whose batches it puts together."""
    batches = list(stream_rows(task, folder, folds=folds, test_share=test_share, seed=seed))
    rows: pd.DataFrame = pa.Table.from_batches(batches).to_pandas()
    return rows


def stream_rows(
    task: Competition, folder: Path, *, folds: int, test_share: float, seed: int
) -> Iterator[pa.RecordBatch]:
    """Read a task's raw files as batches of rows, the training part before the test part.

    Files of tables are read twice, a block at a time, and may be larger than memory: the first time everything but the
    texts is kept, about 20 bytes a row and 150 a group, since folds need the labels of every group.

    Args:
        task: says which files there are and what their columns mean.
        folder: holds the raw files.
        folds: number of folds of the training part.
        test_share: share of rows held out as the test part, for a task that has no test file.
        seed: of both splits.

    Yields:
        Columns of ROWS_SCHEMA: row_id, group, text, label (-1 where it is not known), part ("train" or "test") and
        fold (0 to folds - 1, -1 in the test part). No group crosses parts or folds.

    Raises:
        UnrollError: a file is missing, empty or damaged, or a row is not as the task says.
    """
    if not task.is_folder_of_labels:
        parts = _stream_tables(task, folder, folds, seed)
    else:
        parts = iter([_place_labelled_rows(_read_labelled_folder(task, folder), folds, test_share, seed)])
    for part in parts:
        rows = ROWS_SCHEMA.validate(part[list(ROWS_SCHEMA.columns)])
        yield pa.RecordBatch.from_pandas(rows, ROWS_ARROW, preserve_index=False)


def _place_labelled_rows(rows: pd.DataFrame, folds: int, test_share: float, seed: int) -> pd.DataFrame:
    labels, groups = rows["label"].to_numpy(), rows["group"].to_numpy(object)
    rows["part"] = np.where(choose_test_rows(labels, groups, test_share, seed), TEST, TRAIN)
    rows = rows.sort_values("part", ascending=False, kind="stable", ignore_index=True)
    train = (rows["part"] == TRAIN).to_numpy()
    fold = np.full(len(rows), -1, dtype=np.int64)
    fold[train] = assign_folds(rows["label"].to_numpy()[train], rows["group"].to_numpy(object)[train], folds, seed)
    rows["fold"] = fold
    return rows


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
        UnrollError: see stream_raw_text.
    """
    path = raw_file(folder, name)
    return path, "".join(stream_raw_text(path, name))


def stream_raw_text(path: Path, name: str) -> Iterator[str]:
    """Read a raw file, unzipped where it is served zipped, in blocks of whole lines.

    Raises:
        UnrollError: the file is empty, not UTF-8, or a zip archive that is damaged or lacks it.
    """
    lines, kept, is_empty = 0, b"", True
    try:
        with _open_raw(path, name) as stream:
            while True:
                block = stream.read(BLOCK)
                content = kept + block
                end = content.rfind(b"\n") + 1 if block else len(content)
                content, kept = content[:end], content[end:]
                if is_empty and block and not content.strip():
                    content, kept = b"", content + kept
                if content:
                    text = content.decode("utf-8-sig" if not lines else "utf-8")
                    lines += content.count(b"\n")
                    if is_empty and not text.strip():
                        break
                    is_empty = False
                    yield text
                if not block:
                    break
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise UnrollError(f"{path}: not a whole zip archive ({error}); download it again") from None
    except UnicodeDecodeError as error:
        line = lines + content[: error.start].count(b"\n") + 1
        raise UnrollError(f"{path}: line {line}: byte {content[error.start]:#04x} is not UTF-8") from None
    if is_empty:
        raise UnrollError(f"{path}: the file is empty")


@contextmanager
def _open_raw(path: Path, name: str) -> Iterator[IO[bytes]]:
    if path.suffix != ".zip":
        with path.open("rb") as stream:
            yield stream
        return
    with zipfile.ZipFile(path) as archive:
        if name not in archive.namelist():
            raise UnrollError(f"{path}: expected {name} inside, found {', '.join(archive.namelist()) or 'nothing'}")
        check_archive(archive, path)
        with archive.open(name) as stream:
            yield stream


def read_sample_submission(task: Competition, folder: Path) -> pd.Series:
    """Read the ids that the competition wants answered, in its order.

    Raises:
        UnrollError: the file is missing or damaged, or has other columns than the task says.
    """
    if task.is_folder_of_labels:
        raise UnrollError(f"task {task.name}: has no sample submission")
    table = _Table(raw_file(folder, str(task.sample)), str(task.sample), ",")
    blocks = table.read([task.id, task.label_column])
    ids = np.concatenate([table.read_ids(line, columns[0], task.id) for line, columns in blocks])
    _check_different(table.path, ids, task.id)
    return pd.Series(ids, name=task.id)


@dataclass(frozen=True)
class _Table:
    """A delimited file with a header, read a block of lines at a time."""

    path: Path
    name: str
    separator: str

    def read(self, columns: Sequence[str]) -> Iterator[tuple[int, list[pa.Array]]]:
        """Yield the number of a block's first line and its columns as texts; quotes are characters like any other."""
        line = 0
        for text in stream_raw_text(self.path, self.name):
            lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
            if not line:
                self._check_header(lines.pop(0), columns)
                line = 2
            if not lines:
                continue
            fields = [row.split(self.separator) for row in lines]
            if set(map(len, fields)) != {len(columns)}:
                self._refuse_first(line, [len(row) for row in fields], len(columns))
            yield line, [pa.array(column, pa.large_string()) for column in zip(*fields, strict=True)]
            line += len(lines)
        if line <= 2:
            raise UnrollError(f"{self.path}: has a header and no rows")

    def _check_header(self, header: str, columns: Sequence[str]) -> None:
        if header.split(self.separator) != list(columns):
            found = ", ".join(header.split(self.separator))
            raise UnrollError(f"{self.path}: line 1: expected the columns {', '.join(columns)}, found {found}")

    def _refuse_first(self, line: int, sizes: list[int], expected: int) -> NoReturn:
        number = next(number for number, size in enumerate(sizes) if size != expected)
        raise UnrollError(f"{self.path}: line {line + number}: expected {expected} fields, found {sizes[number]}")

    def read_ids(self, line: int, texts: pa.Array, column: str) -> Ints:
        """Return whole numbers from a block that begins in a line, (N,)."""
        self._check(line, texts, compute.match_substring_regex(texts, "^[0-9]{1,18}$"), column, "a whole number")
        ids: Ints = texts.cast(pa.int64()).to_numpy()
        return ids

    def read_labels(self, line: int, texts: pa.Array, column: str, labels: Sequence[str]) -> npt.NDArray[np.int16]:
        """Return the labels' numbers from a block that begins in a line, (N,)."""
        found = compute.index_in(texts, value_set=pa.array(labels, pa.large_string()))
        self._check(line, texts, found.is_valid(), column, f"one of {', '.join(labels)}")
        numbers: npt.NDArray[np.int16] = found.to_numpy().astype(np.int16)
        return numbers

    def _check(self, line: int, texts: pa.Array, is_right: pa.Array, column: str, expected: str) -> None:
        if not compute.all(is_right).as_py():
            wrong = int(is_right.to_numpy(zero_copy_only=False).argmin())
            raise UnrollError(
                f"{self.path}: line {line + wrong}: {column}: found {texts[wrong].as_py()!r}, expected {expected}"
            )


@dataclass(frozen=True)
class _Index:
    """All that a table holds but its texts.

    Attributes:
        ids: of the rows, (N,).
        labels: (N,), -1 where they are not known.
        groups: number of each row's group, in the order in which they appear, (N,).
        names: the groups' numbers by their names, G of them.
    """

    ids: Ints
    labels: npt.NDArray[np.int16]
    groups: npt.NDArray[np.int32]
    names: dict[str, int]


def _index_table(table: _Table, task: Competition, columns: Sequence[str]) -> _Index:
    ids, labels, groups = [], [], []
    names: dict[str, int] = {}
    for line, block in table.read(columns):
        ids.append(table.read_ids(line, block[0], task.id))
        if len(block) > 3:
            labels.append(table.read_labels(line, block[3], task.label_column, task.labels))
        else:
            labels.append(np.full(len(block[0]), UNLABELLED, dtype=np.int16))
        # Each different group of a block is looked up once.
        different = compute.dictionary_encode(block[1])
        numbers = [names.setdefault(name, len(names)) for name in different.dictionary.to_pylist()]
        groups.append(np.array(numbers, dtype=np.int32)[different.indices.to_numpy()])
    index = _Index(np.concatenate(ids), np.concatenate(labels), np.concatenate(groups), names)
    _check_different(table.path, index.ids, task.id)
    return index


def _check_different(path: Path, ids: Ints, column: str) -> None:
    in_order = np.sort(ids)
    repeated = in_order[1:][np.diff(in_order) == 0]
    if len(repeated):
        row = int(np.flatnonzero(ids == repeated[0])[1])
        raise UnrollError(
            f"{path}: line {row + 2}: {column}: found {str(repeated[0])!r}, expected a value that stands once"
        )


def _stream_tables(task: Competition, folder: Path, folds: int, seed: int) -> Iterator[pd.DataFrame]:
    columns = [task.id, str(task.group), task.text[0]]
    train_table = _Table(raw_file(folder, task.train), task.train, _separator(task.train))
    test_table = _Table(raw_file(folder, str(task.test)), str(task.test), _separator(str(task.test)))
    train = _index_table(train_table, task, [*columns, task.label_column])
    test = _index_table(test_table, task, columns)
    _check_parts_differ(train_table, test_table, train, test, task)
    wanted = read_sample_submission(task, folder)
    _check_sample(raw_file(folder, str(task.sample)), wanted, pd.Series(test.ids), task)

    fold_of_group = _deal_groups(train, len(task.labels), folds, seed)
    for table, index, part in ((train_table, train, TRAIN), (test_table, test, TEST)):
        first = 0
        for _, block in table.read([*columns, task.label_column] if part == TRAIN else columns):
            inside = slice(first, first + len(block[0]))
            first = inside.stop
            fold = fold_of_group[index.groups[inside]] if part == TRAIN else -1
            values = {"row_id": index.ids[inside], "group": block[1].to_pandas(), "text": block[2].to_pandas()}
            yield pd.DataFrame(values).assign(label=index.labels[inside].astype(np.int64), part=part, fold=fold)


def _deal_groups(train: _Index, classes: int, folds: int, seed: int) -> Ints:
    """Return the fold of each group; the shuffle is of the groups by their names, as in splits.assign_folds."""
    by_name = np.array(sorted(train.names), dtype=object)
    numbers = np.fromiter((train.names[name] for name in by_name), dtype=np.int64, count=len(by_name))
    counts = count_labels(train.groups, train.labels, len(numbers), classes)
    fold_of_group = np.empty(len(numbers), dtype=np.int64)
    fold_of_group[numbers] = deal_groups(counts[numbers], folds, seed)
    return fold_of_group


def _check_parts_differ(
    train_table: _Table, test_table: _Table, train: _Index, test: _Index, task: Competition
) -> None:
    in_order = np.sort(train.ids)
    places = np.minimum(np.searchsorted(in_order, test.ids), len(in_order) - 1)
    repeated = np.flatnonzero(in_order[places] == test.ids)
    if len(repeated):
        row = int(repeated[0])
        raise UnrollError(
            f"{test_table.path}: line {row + 2}: {task.id} {test.ids[row]} stands in {train_table.path.name} too; "
            "ids must differ"
        )
    shared = train.names.keys() & test.names.keys()
    if shared:
        raise UnrollError(
            f"{test_table.path}: {task.group!s} {min(shared)} stands in {train_table.path.name} too; its groups must "
            "differ"
        )


def _check_sample(path: Path, wanted: pd.Series, test_ids: pd.Series, task: Competition) -> None:
    for ids, others, found, right in (
        (test_ids, wanted, f"stands in {task.test!s} but not here", "every test row needs a line"),
        (wanted, test_ids, f"is not in {task.test!s}", "every line needs a test row"),
    ):
        missing = ids[~ids.isin(others)]
        if len(missing):
            raise UnrollError(f"{path}: {task.id} {missing.iloc[0]} {found} ({len(missing)} such ids); {right}")


def _read_labelled_folder(task: Competition, folder: Path) -> pd.DataFrame:
    names = (folder / task.train).parent
    if not names.is_dir():
        raise UnrollError(f"{names}: no such folder")
    unknown = sorted(path.name for path in names.iterdir() if path.name not in _file_names(task))
    if unknown:
        raise UnrollError(f"{names / unknown[0]}: not a label of {task.name}; expected {', '.join(task.labels)}")
    texts: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(_file_names(task)):
        _, content = read_raw_text(names, name)
        lines = [line.strip() for line in content.splitlines()]
        texts += [line for line in lines if line]
        labels += [label] * (len(texts) - len(labels))
    table = pd.DataFrame({"text": texts, "label": np.array(labels, dtype=np.int64)})
    table["row_id"] = np.arange(1, len(table) + 1)
    # Two spellings of one name that differ in case or in how accents are composed are one name.
    table["group"] = [unicodedata.normalize("NFC", text).casefold() for text in texts]
    return table


def _file_names(task: Competition) -> list[str]:
    return [f"{label}{Path(task.train).suffix}" for label in task.labels]


def _separator(name: str) -> str:
    return "\t" if Path(name).suffix == ".tsv" else ","
