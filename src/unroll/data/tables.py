"""Text files read with PyArrow: .csv (commas, double quotes), .tsv (tabs, no quoting) and lines; plain or zipped."""

import codecs
import csv
import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv as arrow_csv
from pyarrow import compute

from unroll.core.errors import UnrollError
from unroll.core.files import check_archive

BLOCK = 1 << 25  # bytes that are read at a time, which have to hold at least one row
END = "\0"  # appended to every table: read as a row of its own, unless a quoted field has not been closed
LFS_POINTER = b"version https://git-lfs"
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class TextFile:
    """A file of UTF-8 text. Its methods raise an UnrollError that names the file and the line of a fault.

    Attributes:
        path: the file, or the zip archive that contains it; its name in messages.
        name: file name, whose suffix gives the format.
        content: the bytes, where they have been read already.
    """

    path: Path
    name: str
    content: bytes | None = None

    @property
    def is_tsv(self) -> bool:
        """Return whether columns are separated by tabs and nothing is quoted."""
        return self.name.lower().endswith(".tsv")

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the file, or the outermost member of its name in the archive."""
        try:
            if self.content is not None:
                yield io.BytesIO(self.content)
            elif self.path.suffix == ".zip":
                with zipfile.ZipFile(self.path) as archive:
                    check_archive(archive, self.path)
                    members = sorted(archive.namelist(), key=lambda member: member.count("/"))
                    found = next((member for member in members if PurePosixPath(member).name == self.name), None)
                    if found is None:
                        inside = ", ".join(members[:20]) or "nothing"
                        raise UnrollError(f"{self.path}: expected {self.name} inside, found {inside}")
                    with archive.open(found) as stream:
                        yield stream
            else:
                with self.path.open("rb") as stream:
                    yield stream
        except ZIP_ERRORS as error:
            raise UnrollError(f"{self.path}: not a whole zip archive ({error}); download it again") from None
        except OSError as error:
            raise UnrollError(f"{self.path}: cannot be read ({error.strerror or error})") from None

    def read_lines(self) -> list[str]:
        """Return the lines, which end in a line feed, a carriage return, or both."""
        with self.open() as stream:
            text = b"".join(_check_blocks(stream, self.path)).decode("utf-8-sig")
        return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")

    def read_header(self) -> list[str]:
        """Return the names of the columns."""
        with self.open() as stream:
            block = next(_check_blocks(stream, self.path))
        _, names = next(self._parse(io.StringIO(block.decode("utf-8-sig", "replace"), newline="")))
        if not any(names):
            raise UnrollError(f"{self.path}: line 1: found an empty line, expected the names of the columns")
        if len(names) == 1 and any(other in names[0] for other in (",;|" if self.is_tsv else ";|\t\n")):
            wanted = "tabs" if self.is_tsv else "commas"
            raise UnrollError(
                f"{self.path}: line 1: found one column {names[0][:60]!r}, expected {wanted} between columns"
            )
        return names

    def read_columns(self, columns: Sequence[str]) -> pa.Table:
        """Return columns as texts (large_string), found by name, of one row or more. Nothing is read as missing.

        An empty line is an empty text in a table of one column, and skipped in others.
        """
        header = self.read_header()
        for column in columns:
            if header.count(column) != 1:
                found = "it twice" if column in header else f"the columns {', '.join(header)[:200]}"
                raise UnrollError(f"{self.path}: line 1: expected a column {column}, found {found}")
        table = self._read_blocks(columns, len(header))
        if not len(table):
            raise UnrollError(f"{self.path}: has a header and no rows")
        return table

    def _read_blocks(self, columns: Sequence[str], width: int) -> pa.Table:
        """Return columns of a table that is so many columns wide."""
        wrong: list[Any] = []
        is_closed = False

        def handle_invalid(row: Any) -> str:
            nonlocal is_closed
            if row.text == END:
                is_closed = True
                return "skip"
            wrong.append(row)
            return "error"

        parse = arrow_csv.ParseOptions(
            delimiter="\t" if self.is_tsv else ",",
            quote_char=False if self.is_tsv else '"',
            newlines_in_values=not self.is_tsv,
            ignore_empty_lines=width > 1,
            invalid_row_handler=handle_invalid,
        )
        types = dict.fromkeys(columns, pa.large_string())
        convert = arrow_csv.ConvertOptions(column_types=types, include_columns=list(columns), strings_can_be_null=False)
        read = arrow_csv.ReadOptions(block_size=BLOCK, use_threads=False)
        try:
            with self.open() as stream:
                file = _BlockFile(_check_blocks(stream, self.path, END.encode()))
                table = arrow_csv.open_csv(file, read, parse, convert).read_all()
        except pa.ArrowInvalid as error:
            if not wrong:
                problem = f"{error}, or a row is longer than {BLOCK >> 20} MiB; see that all quotes are closed"
                raise UnrollError(f"{self.path}: cannot be read as a table: {problem}") from None
            line, found = self.find_line(wrong[0].number - 2), wrong[0].actual_columns
            problem = f"expected {width} fields, as in line 1, found {found}"
            if wrong[0].text.endswith(END):
                problem = "a quoted field has no closing quote"
            raise UnrollError(f"{self.path}: line {line}: {problem}") from None
        if width == 1:
            is_closed = table.column(0)[-1].as_py() == END
            table = table.slice(0, len(table) - is_closed)
        if not is_closed:
            line = self.find_line(len(table) - 1)
            raise UnrollError(f"{self.path}: line {line}: a quoted field has no closing quote")
        return table

    def find_line(self, row: int) -> int:
        """Return the number of the line in which a row begins; the header is row -1."""
        with self.open() as stream:
            lines = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")
            for number, (line, _) in enumerate(self._parse(lines), start=-1):
                if number == row:
                    return line
        raise AssertionError(f"{self.path} has no row {row}")

    def _parse(self, lines: io.TextIOBase) -> Iterator[tuple[int, list[str]]]:
        """Yield the line in which each row begins, and the fields of the row, by Python's reader."""
        csv.field_size_limit((1 << 31) - 1)
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if self.is_tsv else csv.reader(lines)
        line, width = 1, 0
        for fields in reader:
            width = width or len(fields) or 1
            if fields or width == 1:
                yield line, fields
            line = reader.line_num + 1

    def check(self, column: str, values: pa.ChunkedArray, is_right: Any, expected: str) -> None:
        """Check that all values of a column are right, (N,) texts and (N,) booleans."""
        row = compute.index(is_right, False).as_py()
        if row >= 0:
            line, found = self.find_line(row), str(values[row].as_py())
            found = found if len(found) <= 60 else f"{found[:60]}…"
            raise UnrollError(f"{self.path}: line {line}: {column}: found {found!r}, expected {expected}")


def served_names(name: str) -> tuple[str, ...]:
    """Return the names under which a file may be served: its own, or that of a zip archive with it inside."""
    return name, f"{name}.zip", f"{Path(name).stem}.zip"


def find_text_file(folder: Path, name: str) -> TextFile:
    """Return a file of a folder, plain or zipped.

    Raises:
        UnrollError: there is none.
    """
    parent, name = (folder / name).parent, Path(name).name
    for served in served_names(name):
        if (parent / served).is_file():
            return TextFile(parent / served, name)
    raise UnrollError(f"{parent / name}: no such file, and no {name}.zip beside it")


class _BlockFile(io.RawIOBase):
    """A file that returns one block a read."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        super().__init__()
        self._blocks = blocks

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        return next(self._blocks, b"")


def _check_blocks(stream: IO[bytes], path: Path, end: bytes = b"") -> Iterator[bytes]:
    """Yield a file in blocks of up to BLOCK bytes, with a last line appended.

    Raises:
        UnrollError: the file is empty, or not UTF-8 text.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    line, is_blank = 1, True
    size = BLOCK - len(end) - 1
    block = stream.read(size)
    if block.startswith(LFS_POINTER):
        raise UnrollError(f"{path}: is a Git LFS pointer, not the file itself; run `git lfs pull`")
    while True:
        following = stream.read(size) if block else b""
        try:
            text = decoder.decode(block, final=not following)
        except UnicodeDecodeError as error:
            line += _count_lines(error.object[: error.start].decode("utf-8", "replace"))
            byte = error.object[error.start]
            raise UnrollError(f"{path}: line {line}: byte {byte:#04x} is not UTF-8; save the file as UTF-8") from None
        if "\0" in text:
            line += _count_lines(text[: text.index("\0")])
            raise UnrollError(f"{path}: line {line}: found a NUL byte, expected text; save the file as UTF-8")
        line, is_blank = line + _count_lines(text), is_blank and not text.strip("\ufeff\r\n\t ")
        if not following:
            break
        yield block
        block = following
    if is_blank:
        raise UnrollError(f"{path}: the file is empty")
    yield block + (b"" if not end or block[-1:] in (b"\n", b"\r") else b"\n") + end


def _count_lines(text: str) -> int:
    return max(text.count("\n"), text.count("\r"))
