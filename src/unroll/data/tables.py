"""Text files read with PyArrow: .csv (comma, double quotes), .tsv (tab, no quoting), plain lines; plain or zipped."""

import codecs
import csv
import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, NoReturn

import pyarrow as pa
import pyarrow.csv as arrow_csv
from pyarrow import compute

from unroll.core.errors import UnrollError
from unroll.core.files import check_archive

BLOCK_SIZES = (1 << 23, 1 << 26, 1 << 29, (1 << 31) - 1)  # bytes; a block has to hold at least one record
END = "\0"  # the record appended to every table: it is read as one unless a quoted field is still open
LFS_POINTER = b"version https://git-lfs"
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class TextFile:
    """A file of UTF-8 text.

    Attributes:
        path: the file, or the zip archive that it is in; also its name in messages.
        name: file name, whose suffix gives the format.
        content: the bytes, where they have been read already.
    """

    path: Path
    name: str
    content: bytes | None = None

    @property
    def separator(self) -> str:
        """Return the separator of columns."""
        return "\t" if self.name.lower().endswith(".tsv") else ","

    @contextmanager
    def open(self, *, end: bytes = b"") -> Iterator["_CheckedStream"]:
        """Open the file; reading raises UnrollError where it is empty, damaged, or not UTF-8 text.

        Args:
            end: bytes to append, on a line of their own.
        """
        try:
            if self.content is not None:
                yield _CheckedStream(io.BytesIO(self.content), self.path, end)
            elif self.path.suffix == ".zip":
                with zipfile.ZipFile(self.path) as archive:
                    check_archive(archive, self.path)
                    with archive.open(find_member(archive, self.path, self.name)) as stream:
                        yield _CheckedStream(stream, self.path, end)
            else:
                with self.path.open("rb") as stream:
                    yield _CheckedStream(stream, self.path, end)
        except ZIP_ERRORS as error:
            raise UnrollError(f"{self.path}: not a whole zip archive ({error}); download it again") from None
        except OSError as error:
            raise UnrollError(f"{self.path}: cannot be read ({error.strerror or error})") from None

    def read_lines(self) -> list[str]:
        """Return the lines, which end in a line feed, a carriage return, or both."""
        with self.open() as stream:
            text = stream.read().decode("utf-8-sig")
        return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")

    def read_header(self) -> list[str]:
        """Return the names of the columns.

        Raises:
            UnrollError: line 1 is empty, or its columns are separated in another way.
        """
        names: list[str] = self._read(None, ()).schema.names
        if not any(names):
            raise UnrollError(f"{self.path}: line 1: found an empty line, expected the names of the columns")
        if len(names) == 1 and any(other in names[0] for other in ",;\t|" if other != self.separator):
            kind = "tabs" if self.separator == "\t" else "commas"
            raise UnrollError(f"{self.path}: line 1: found one column {names[0]!r}, expected {kind} between columns")
        return names

    def read_columns(self, columns: Sequence[str]) -> pa.Table:
        """Return columns as texts (large_string), found by name; others are left out. Nothing is read as missing.

        Raises:
            UnrollError: a column is missing, a row has more or fewer fields than the header, or there are no rows.
        """
        header = self.read_header()
        for column in columns:
            if header.count(column) != 1:
                found = "it twice" if column in header else f"the columns {', '.join(header)}"
                raise UnrollError(f"{self.path}: line 1: expected a column {column}, found {found}")
        table = self._read(header, columns)
        if not len(table):
            raise UnrollError(f"{self.path}: has a header and no rows")
        return table

    def _read(self, header: Sequence[str] | None, columns: Sequence[str]) -> pa.Table:
        """Return columns; without a header, which is then to be found, all columns and no rows."""
        invalid: list[Any] = []
        is_closed = False

        def handle_invalid(row: Any) -> str:
            nonlocal is_closed
            if row.text == END:
                is_closed = True
                return "skip"
            invalid.append(row)
            return "skip" if header is None else "error"

        parse = arrow_csv.ParseOptions(
            delimiter=self.separator,
            quote_char=False if self.separator == "\t" else '"',
            newlines_in_values=self.separator == ",",
            ignore_empty_lines=header is not None and len(header) > 1,
            invalid_row_handler=handle_invalid,
        )
        convert = arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.large_string()),
            include_columns=list(columns),
            strings_can_be_null=False,
            check_utf8=False,
        )
        for size in BLOCK_SIZES:
            read = arrow_csv.ReadOptions(block_size=size, use_threads=False)
            try:
                with self.open(end=END.encode()) as stream:
                    reader = arrow_csv.open_csv(stream, read, parse, convert)
                    table = reader.schema.empty_table() if header is None else reader.read_all()
                break
            except pa.ArrowInvalid as error:
                if invalid and header is not None:
                    self._refuse_row(invalid[0], len(header))
                if "straddling" not in str(error):
                    raise UnrollError(f"{self.path}: cannot be read as a table; see that all quotes close") from None
        else:
            raise UnrollError(f"{self.path}: found a row of more than 2 GB; see that all quotes close")
        if header is not None and len(header) == 1:
            is_closed = table.column(0)[-1].as_py() == END
            table = table.slice(0, len(table) - is_closed)
        if header is not None and not is_closed:
            raise UnrollError(
                f"{self.path}: line {self.find_line(len(table) - 1)}: a quoted field has no closing quote"
            )
        return table

    def _refuse_row(self, row: Any, fields: int) -> NoReturn:
        line = f"{self.path}: line {self.find_line(row.number - 2)}"
        if row.text.endswith(END):
            raise UnrollError(f"{line}: a quoted field has no closing quote")
        raise UnrollError(f"{line}: expected {fields} fields, as in line 1, found {row.actual_columns}")

    def find_line(self, row: int) -> int:
        """Return the number of the line in which a row begins; the first row after the header is row 0."""
        csv.field_size_limit((1 << 31) - 1)
        with self.open() as stream:
            lines = io.TextIOWrapper(io.BufferedReader(stream), encoding="utf-8-sig", newline="")
            is_tsv = self.separator == "\t"
            reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if is_tsv else csv.reader(lines)
            begin, seen, width = 1, -1, 0
            for fields in reader:
                width = width or len(fields)
                if fields or width == 1:  # in a table of several columns, an empty line is no row
                    if seen == row:
                        break
                    seen += 1
                begin = reader.line_num + 1
        return begin

    def check(self, column: str, values: pa.ChunkedArray, is_right: Any, expected: str) -> None:
        """Check the values of a column by what is right, both (N,).

        Raises:
            UnrollError: a value is wrong; names the line and the value of the first one.
        """
        row = compute.index(is_right, False).as_py()
        if row >= 0:
            found = str(values[row].as_py())
            found = found if len(found) <= 60 else f"{found[:60]}…"
            raise UnrollError(
                f"{self.path}: line {self.find_line(row)}: {column}: found {found!r}, expected {expected}"
            )


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


def find_member(archive: zipfile.ZipFile, path: Path, name: str) -> str:
    """Return the member of an archive with a file name, in whatever folder of it, the outermost first.

    Raises:
        UnrollError: there is none.
    """
    found = [member for member in archive.namelist() if PurePosixPath(member).name == name]
    if not found:
        inside = ", ".join(archive.namelist()[:20]) or "nothing"
        raise UnrollError(f"{path}: expected {name} inside, found {inside}")
    return min(found, key=lambda member: (member.count("/"), member))


class _CheckedStream(io.RawIOBase):
    """The bytes of a text file, checked on their way to a parser."""

    def __init__(self, stream: IO[bytes], path: Path, end: bytes) -> None:
        super().__init__()
        self._stream, self._path, self._end = stream, path, end
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._line, self._is_blank, self._last = 1, True, b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer."""
        block = self.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes, none at the end of the file."""
        block = self._stream.read(-1 if size is None else size)
        is_end = size is None or size < 0 or len(block) < size - 1  # two more bytes have to fit
        if not self._last and block.startswith(LFS_POINTER):
            raise UnrollError(f"{self._path}: is a Git LFS pointer, not the file itself; run `git lfs pull`")
        self._check(block, is_end)
        self._last = block[-1:] or self._last
        if is_end and self._end:
            block += self._end if self._last in (b"\n", b"\r") else b"\n" + self._end
            self._end = b""
        return block

    def _check(self, block: bytes, is_end: bool) -> None:
        try:
            text = self._decoder.decode(block, final=is_end)
        except UnicodeDecodeError as error:
            line = self._line + _count_lines(error.object[: error.start].decode("utf-8", "replace"))
            byte = error.object[error.start]
            raise UnrollError(f"{self._path}: line {line}: byte {byte:#04x} is not UTF-8; save it as UTF-8") from None
        if "\0" in text:
            line = self._line + _count_lines(text[: text.index("\0")])
            raise UnrollError(f"{self._path}: line {line}: found a NUL byte, expected text; save the file as UTF-8")
        self._line += _count_lines(text)
        self._is_blank = self._is_blank and not text.strip("\ufeff\r\n\t ")
        if is_end and self._is_blank:
            raise UnrollError(f"{self._path}: the file is empty")


def _count_lines(text: str) -> int:
    return max(text.count("\n"), text.count("\r"))
