"""Files of texts to predict, and predictions as CSV."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from unroll.core.errors import UnrollError
from unroll.data.tables import TextFile

SEPARATOR = " <sep> "  # between several columns of text
Kind = Literal["csv", "tsv", "lines"]
KINDS: dict[str, Kind] = {".csv": "csv", ".tsv": "tsv"}


@dataclass(frozen=True)
class TextColumn:
    """The texts of a file in their order, and the name of their column ("text" for a file without a header)."""

    heading: str
    texts: list[str]


def join_columns(columns: Iterable[Iterable[str]]) -> list[str]:
    """Return the text of each row: its columns of text with a separator between them."""
    return [SEPARATOR.join(row) for row in zip(*columns, strict=True)]


def read_texts(path: Path, headings: Sequence[str], together: Sequence[str] = ()) -> TextColumn:
    """Read a file of texts: .csv and .tsv have a header, any other file holds one text a line; see parse_texts.

    Raises:
        UnrollError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnrollError(f"{path}: cannot be read ({error.strerror})") from None
    return parse_texts(content, str(path), KINDS.get(path.suffix.lower(), "lines"), headings, together)


def parse_texts(
    content: bytes, name: str, kind: Kind, headings: Sequence[str], together: Sequence[str] = ()
) -> TextColumn:
    """Return the texts of a file, one for each row; an empty field or line is an empty text.

    Args:
        content: of the file, in UTF-8.
        name: of the file, for messages.
        kind: the format; see tables.TextFile.
        headings: names that the column of texts may have, in any case; the only column of a file may have any name.
        together: columns that a text is put together from, where a file has all of them.

    Raises:
        UnrollError: the content cannot be read, or no column, or more than one, has one of the names.
    """
    file = TextFile(Path(name), f"texts.{kind}", content)
    if kind == "lines":
        return TextColumn("text", file.read_lines())
    header = file.read_header()
    if len(together) > 1 and set(together) <= set(header):
        table = file.read_columns(together)
        return TextColumn("text", join_columns(column.to_pylist() for column in table.columns))
    wanted = {heading.casefold() for heading in headings}
    found = [column for column in header if column.casefold() in wanted] if len(header) > 1 else header
    if len(found) != 1:
        raise UnrollError(
            f"{name}: line 1: found the columns {', '.join(header)}, expected one column, or exactly one named "
            f"{' or '.join(headings)}" + (f", or all of {', '.join(together)}" if len(together) > 1 else "")
        )
    return TextColumn(found[0], file.read_columns(found)[found[0]].to_pylist())


def format_csv(rows: Iterable[Sequence[str]]) -> str:
    """Return rows, the header among them, as CSV; fields with separators, quotes or line breaks are quoted."""
    # csv quotes a field for a line break that is part of the line end it is given, so it is given both.
    echo: Any = SimpleNamespace(write=str)  # a file whose `write` returns what is written
    writer = csv.writer(echo, lineterminator="\r\n")
    return "".join(writer.writerow(row).removesuffix("\r\n") + "\n" for row in rows)
