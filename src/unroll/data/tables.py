"""Text files as tables and lines: .csv (commas, double quotes), .tsv (tabs, no quoting) and lines; plain or zipped."""

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
from pyarrow import compute

from unroll.core.errors import UnrollError
from unroll.core.files import check_archive

CHUNK = 1 << 16  # rows that are held as Python's strings
LFS_POINTER = "version https://git-lfs"
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
csv.field_size_limit((1 << 31) - 1)


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

    def lines(self) -> Iterator[str]:
        """Yield the lines with their ends: a line feed, a carriage return, or both."""
        is_blank = True
        with self.open() as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
            for number, line in enumerate(text, start=1):
                if number == 1 and line.startswith(LFS_POINTER):
                    raise UnrollError(f"{self.path}: is a Git LFS pointer, not the file itself; run `git lfs pull`")
                if not line.isascii() and (wrong := next((c for c in line if "\udc80" <= c <= "\udcff"), None)):
                    found = f"byte {ord(wrong) - 0xDC00:#04x} is not UTF-8"
                    raise UnrollError(f"{self.path}: line {number}: {found}; save the file as UTF-8")
                if "\0" in line:
                    raise UnrollError(f"{self.path}: line {number}: found a NUL byte, expected text in UTF-8")
                is_blank = is_blank and not line.strip("\r\n\t ")
                yield line
        if is_blank:
            raise UnrollError(f"{self.path}: the file is empty")

    def read_lines(self) -> list[str]:
        """Return the lines without their ends."""
        return [line.rstrip("\r\n") for line in self.lines()]

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the number of the line where each row begins, and its fields; the first row is the header.

        An empty line is an empty text in a table of one column, and skipped in others.
        """
        options: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if self.is_tsv else {"strict": True}
        reader, line, width = csv.reader(self.lines(), **options), 1, 0
        try:
            for fields in reader:
                fields = fields or [""]
                if not width and fields == [""]:
                    raise UnrollError(f"{self.path}: line 1: found an empty line, expected the names of the columns")
                width = width or len(fields)
                if len(fields) != width and fields != [""]:
                    found = f"expected {width} fields, as in line 1, found {len(fields)}"
                    raise UnrollError(f"{self.path}: line {line}: {found}")
                if len(fields) == width:
                    yield line, fields
                line = reader.line_num + 1
        except csv.Error as error:
            reason = "a quoted field has no closing quote" if "unexpected end" in str(error) else str(error)
            raise UnrollError(f"{self.path}: line {line}: {reason}") from None

    def read_header(self) -> list[str]:
        """Return the names of the columns."""
        _, names = next(self.rows())
        if len(names) == 1 and any(other in names[0] for other in (",;|" if self.is_tsv else ";|\t\n")):
            wanted, found = "tabs" if self.is_tsv else "commas", f"found one column {names[0][:60]!r}"
            raise UnrollError(f"{self.path}: line 1: {found}, expected {wanted} between columns")
        return names

    def read_columns(self, columns: Sequence[str]) -> pa.Table:
        """Return columns as texts (large_string), found by name, of one row or more. Nothing is read as missing."""
        header = self.read_header()
        for column in columns:
            if header.count(column) != 1:
                found = "it twice" if column in header else f"the columns {', '.join(header)[:200]}"
                raise UnrollError(f"{self.path}: line 1: expected a column {column}, found {found}")
        places = [header.index(column) for column in columns]
        chunks: list[list[pa.Array]] = [[] for _ in columns]
        rows = self.rows()
        next(rows)
        while block := [
            [fields[place] for place in places] for _, (_, fields) in zip(range(CHUNK), rows, strict=False)
        ]:
            for chunk, values in zip(chunks, zip(*block, strict=True), strict=True):
                chunk.append(pa.array(values, pa.large_string()))
        if not chunks[0]:
            raise UnrollError(f"{self.path}: has a header and no rows")
        return pa.table([pa.chunked_array(chunk) for chunk in chunks], list(columns))

    def check(self, column: str, values: pa.ChunkedArray, is_right: Any, expected: str) -> None:
        """Check that all values of a column are right, (N,) texts and (N,) booleans."""
        row = compute.index(is_right, False).as_py()
        if row >= 0:
            line = next(line for number, (line, _) in enumerate(self.rows(), start=-1) if number == row)
            found = str(values[row].as_py())
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
