"""Files of texts to be answered, and answers as CSV: every row is kept, and every mistake is named by its line."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unroll.core.errors import UnrollError

Kind = Literal["csv", "tsv", "lines"]
KINDS: dict[str, Kind] = {".csv": "csv", ".tsv": "tsv"}


@dataclass(frozen=True)
class TextColumn:
    """The texts of a file in their order, and the heading that they stand under; `lines` have none and get "text"."""

    heading: str
    texts: list[str]


def read_texts(path: Path, headings: Sequence[str]) -> TextColumn:
    """Read a file of texts: .csv and .tsv have a header, any other file holds one text a line.

    Args:
        path: the file.
        headings: what a column of texts may be called, small letters or capitals.

    Raises:
        UnrollError: the file cannot be read; see parse_texts.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnrollError(f"{path}: cannot be read ({error.strerror})") from None
    return parse_texts(content, str(path), KINDS.get(path.suffix.lower(), "lines"), headings)


def parse_texts(content: bytes, name: str, kind: Kind, headings: Sequence[str]) -> TextColumn:
    """Take the texts out of a file's content, an empty text for an empty line or field.

    Args:
        content: UTF-8, with a byte order mark or without.
        name: the file's, for messages.
        kind: csv, where a field with a comma, a quote or a line break in it stands in double quotes; tsv, where a
            quote is a character like any other; or lines.
        headings: what a column of texts may be called. A file with one column needs none of these.

    Raises:
        UnrollError: the content is empty, not UTF-8, has a NUL byte, a line with more or fewer fields than the header,
            or no column, or more than one, that can be meant.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UnrollError(
            f"{name}: line {line}: byte {content[error.start]:#04x} is not UTF-8; save the file as UTF-8"
        ) from None
    if not text or (kind != "lines" and not text.strip()):
        raise UnrollError(f"{name}: the file is empty; expected {'a header and rows' if kind != 'lines' else 'texts'}")
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise UnrollError(f"{name}: line {line}: has a NUL byte, which no text has; save the file as UTF-8 text")
    if kind == "lines":
        return TextColumn("text", _lines(text))
    rows = _parse_csv(text, name) if kind == "csv" else enumerate((line.split("\t") for line in _lines(text)), start=1)
    _, header = next(rows)
    column = _choose_column(header, headings, name)
    texts = []
    for line, row in rows:
        if len(row) != len(header):
            raise UnrollError(f"{name}: line {line}: expected {len(header)} fields, as in line 1, found {len(row)}")
        texts.append(row[column])
    if not texts:
        raise UnrollError(f"{name}: has a header and no rows; line 1 names the columns, texts begin in line 2")
    return TextColumn(header[column], texts)


def _lines(text: str) -> list[str]:
    """Cut at line ends alone: str.splitlines would also cut inside a text, at a form feed or a line separator."""
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def _parse_csv(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row with the line that it begins in; an empty line is one empty field."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for row in reader:
            yield line, row or [""]
            line = reader.line_num + 1
    except csv.Error as error:
        raise UnrollError(
            f"{name}: line {line}: not CSV ({error}); a field that begins with a double quote ends with one, and a "
            "quote inside it is doubled"
        ) from None


def _choose_column(header: Sequence[str], headings: Sequence[str], name: str) -> int:
    wanted = {heading.casefold() for heading in headings}
    found = [number for number, heading in enumerate(header) if heading.casefold() in wanted]
    if len(found) == 1 or len(header) == 1:
        return found[0] if found else 0
    problem = "no column of texts" if not found else "more than one column of texts"
    raise UnrollError(
        f"{name}: line 1: {problem}; expected one column, or one of them named {' or '.join(headings)}, found the "
        f"columns {', '.join(header)}"
    )


class _Echo:
    """A file to write to that gives back what is written."""

    def write(self, line: str) -> str:
        return line


def format_csv(rows: Iterable[Sequence[str]]) -> str:
    """Return rows, the header among them, as CSV whose fields come back as they are, line breaks in them included."""
    # The writer quotes a field for the line breaks that stand in its own line end, so it is asked for both.
    writer = csv.writer(_Echo(), lineterminator="\r\n")
    return "".join(writer.writerow(row).removesuffix("\r\n") + "\n" for row in rows)
