"""Text files as tables and lines: .csv, .tsv (tabs, no quoting), .jsonl and lines; plain, zipped or gzipped."""

import codecs
import csv
import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Any, Literal, cast

import pyarrow as pa
from pyarrow import compute
from pydantic import AfterValidator, Field

from unroll.core.errors import UnrollError
from unroll.core.files import check_archive
from unroll.core.settings import Section

CHUNK = 1 << 16  # rows that are held as Python's strings
LFS_POINTER, WEB_PAGE = "version https://git-lfs", ("<!doctype html", "<html")
ZIP_ERRORS = (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
csv.field_size_limit((1 << 31) - 1)


def _check_encoding(name: str) -> str:
    try:
        "".encode(name)  # which refuses what is no encoding of texts, such as base64
        return codecs.lookup(name).name
    except LookupError:
        raise ValueError(f"found {name!r}, expected an encoding such as utf-8 or latin-1") from None


class CsvOptions(Section):
    """How tables are written: the separator (by default a comma, in .tsv files a tab), and what quotes a quote."""

    separator: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    escape: Literal["\\"] | None = None  # besides a doubled quote
    encoding: Annotated[str, AfterValidator(_check_encoding)] = "utf-8"


USUAL = CsvOptions()


@dataclass(frozen=True)
class TextFile:
    """A file of text. Its methods raise an UnrollError that names the file and the line of a fault."""

    path: Path  # the file, or the zip archive that contains it; its name in messages
    name: str  # file name, whose suffix gives the format
    content: bytes | None = None  # the bytes, where they have been read already
    options: CsvOptions = USUAL  # how tables are written

    @property
    def separator(self) -> str:
        """Return what separates columns."""
        return self.options.separator or ("\t" if self.name.lower().endswith(".tsv") else ",")

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
                with gzip.open(self.path) if self.path.suffix == ".gz" else self.path.open("rb") as stream:
                    yield cast("IO[bytes]", stream)
        except ZIP_ERRORS as error:
            raise UnrollError(f"{self.path}: not a whole archive ({error}); download it again") from None
        except OSError as error:
            raise UnrollError(f"{self.path}: cannot be read ({error.strerror or error})") from None
        except UnicodeError as error:
            raise UnrollError(f"{self.path}: not in the encoding {self.options.encoding} ({error})") from None

    def lines(self) -> Iterator[str]:
        """Yield the lines with their ends: a line feed, a carriage return, or both."""
        is_blank = True
        with self.open() as stream:
            encoding = "utf-8-sig" if self.options.encoding == "utf-8" else self.options.encoding
            text = io.TextIOWrapper(stream, encoding=encoding, errors="surrogateescape", newline="")
            for number, line in enumerate(text, start=1):
                if number == 1 and line.startswith(LFS_POINTER):
                    raise UnrollError(f"{self.path}: is a Git LFS pointer, not the file itself; run `git lfs pull`")
                if number == 1 and line.startswith("PK\x03\x04"):
                    raise UnrollError(f"{self.path}: is a zip archive or an Excel workbook, expected text in UTF-8")
                if not line.isascii() and (wrong := next((c for c in line if "\udc80" <= c <= "\udcff"), None)):
                    found = f"byte {ord(wrong) - 0xDC00:#04x} is not {self.options.encoding.upper()}"
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
        if self.name.lower().endswith(".jsonl"):
            yield from self._objects()
            return
        options: dict[str, Any] = {"delimiter": self.separator, "escapechar": self.options.escape, "strict": True}
        if self.separator == "\t":
            options["quoting"] = csv.QUOTE_NONE
        reader, line, width = csv.reader(self.lines(), **options), 1, 0
        try:
            for fields in reader:
                if not width and fields in ([], [""]):
                    raise UnrollError(f"{self.path}: line 1: found an empty line, expected the names of the columns")
                width = width or len(fields)
                if not fields and width == 1:
                    fields = [""]
                if fields and len(fields) != width:
                    found = f"expected {width} fields, as in line 1, found {len(fields)}"
                    raise UnrollError(f"{self.path}: line {line}: {found}")
                if fields:
                    yield line, fields
                line = reader.line_num + 1
        except csv.Error as error:
            reason = "a quoted field has no closing quote" if "unexpected end" in str(error) else str(error)
            raise UnrollError(f"{self.path}: line {line}: {reason}") from None

    def _objects(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the keys of the first object, and the values of each one; null, or a missing key, is an empty text."""
        header: list[str] = []
        for number, line in enumerate(self.lines(), start=1):
            if not line.strip():
                continue
            try:
                content = json.loads(line)
                if not isinstance(content, dict) or not content:
                    raise ValueError(f"found {line.strip()[:40]!r}")
                if "\\u" in line:  # half of a character may be escaped alone, and is no text
                    json.dumps(content, ensure_ascii=False).encode()
            except ValueError as error:
                raise UnrollError(f"{self.path}: line {number}: expected a JSON object; {error}") from None
            if not header:
                header = list(content)
                yield number, header
            values = ["" if value is None else value for value in map(content.get, header)]
            yield number, [value if isinstance(value, str) else json.dumps(value) for value in values]

    def read_header(self) -> list[str]:
        """Return the names of the columns."""
        _, names = next(self.rows())
        if names[0].lstrip().lower().startswith(WEB_PAGE):
            raise UnrollError(f"{self.path}: is a web page, not a table; download the file itself")
        others = [each for each in ";|\t,\n" if each != self.separator and each in names[0]]
        if len(names) == 1 and others:
            wanted = {",": "commas", "\t": "tabs"}.get(self.separator, repr(self.separator))
            found = f"found one column {names[0][:60]!r}, expected {wanted} between columns"
            raise UnrollError(f"{self.path}: line 1: {found}")
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
        rows = islice(self.rows(), 1, None)
        while block := [[fields[place] for place in places] for _, fields in islice(rows, CHUNK)]:
            for chunk, values in zip(chunks, zip(*block, strict=True), strict=True):
                chunk.append(pa.array(values, pa.large_string()))
        if not chunks[0]:
            raise UnrollError(f"{self.path}: has a header and no rows")
        return pa.table([pa.chunked_array(chunk) for chunk in chunks], list(columns))

    def check(self, column: str, values: Any, is_right: Any, expected: str) -> None:
        """Check that all values of a column are right, (N,) texts, of Arrow or pandas, and (N,) booleans."""
        row = compute.index(is_right, False).as_py()
        if row >= 0:
            line = next(line for number, (line, _) in enumerate(self.rows(), start=-1) if number == row)
            found = str(values[row])
            found = found if len(found) <= 60 else f"{found[:60]}…"
            raise UnrollError(f"{self.path}: line {line}: {column}: found {found!r}, expected {expected}")


def served_names(name: str) -> tuple[str, ...]:
    """Return the names under which a file may be served: its own, or that of an archive with it inside."""
    return name, f"{name}.zip", f"{Path(name).stem}.zip", f"{name}.gz"


def find_text_file(folder: Path, name: str, options: CsvOptions = USUAL) -> TextFile:
    """Return a file of a folder: plain, in an archive of its own, or in any zip archive of the folder.

    Raises:
        UnrollError: there is none.
    """
    parent, name = (folder / name).parent, Path(name).name
    own = [parent / served for served in served_names(name)]
    others = (path for path in sorted(folder.glob("*.zip")) if _has_member(path, name))
    found = next((path for path in [*own, *others] if path.is_file()), None)
    if found is None:
        raise UnrollError(f"{parent / name}: no such file, and no {name}.zip beside it")
    return TextFile(found, name, options=options)


def _has_member(path: Path, name: str) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(PurePosixPath(member).name == name for member in archive.namelist())
    except ZIP_ERRORS:
        return False
