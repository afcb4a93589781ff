"""Hostile content, and what a reader may do with it: the rows that are there, or one sentence; never a crash."""

import csv
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st

from unroll.core.errors import UnrollError
from unroll.data.competition import Competition
from unroll.data.rows import read_rows
from unroll.data.texts import Kind, parse_texts

HOSTILE = (
    "\0", "\r", "\n", "\r\n", "\t", '"', '""', ",", ";", "\\", "\ufeff", "\u202e", "\u2066", "\u0301", "e\u0301",
    "\u200d", "\u2028", "\x85", "\x0b", "\x0c", "\x1a", "\x1c", "=1+1", "@SUM(A1)", "+1", "-1", "None", "NA", "nan", "",
    " ", "\u00a0", "9" * 30, "-0", "1e5", "\U0001f600", "<unk>", "<script>", "../..", "word",
)  # fmt: skip
pieces = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=8))
texts = st.lists(pieces, max_size=6).map("".join)
contents = st.one_of(
    st.binary(max_size=120),
    st.lists(pieces, max_size=30).map(lambda parts: "".join(parts).encode("utf-8", "surrogatepass")),
    st.tuples(st.lists(pieces, max_size=10), st.binary(max_size=6)).map(lambda two: "".join(two[0]).encode() + two[1]),
)
HEADINGS = ("text", "name")


def texts_of(content: bytes, kind: Kind) -> list[str] | None:
    """Read a file of texts as predict does; None where it was refused in a sentence."""
    try:
        read = parse_texts(content, "given", kind, HEADINGS)
    except UnrollError as error:
        assert str(error).startswith("given: "), error
        return None
    assert all(isinstance(text, str) for text in read.texts)
    return read.texts


def expected_texts(content: bytes, kind: Kind) -> list[str] | None:
    """Return what a plain reading gives, by other means than the project's, where the content can be read at all."""
    try:
        text = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError:
        return None
    lines = io.StringIO(text, newline="").read().replace("\r\n", "\n").replace("\r", "\n")
    lines = lines[:-1] if lines.endswith("\n") else lines
    if kind == "lines":
        return lines.split("\n")
    if kind == "tsv":
        table = [line.split("\t") for line in lines.split("\n")]
    else:
        table = [row or [""] for row in csv.reader(io.StringIO(text, newline=""))]
    if len(table[0]) > 1:
        table = [row for row in table if row != [""]]
    wanted = [number for number, name in enumerate(table[0]) if name.casefold() in HEADINGS]
    column = wanted[0] if wanted else 0
    return [row[column] for row in table[1:]]


def check_texts(content: bytes, kind: Kind) -> bool:
    """Read content as predict does, every row right, or refuse it in a sentence. Return whether it was read."""
    found = texts_of(content, kind)
    if found is not None:
        assert found == expected_texts(content, kind)
    return found is not None


def check_table(task: Competition, folder: Path, train: bytes) -> bool:
    """Read a training table: its rows letter for letter, or one sentence that names it. Return whether it was read."""
    (folder / "train.tsv").write_bytes(train)
    try:
        _, rows = read_rows(task, folder, folds=2, test_share=0.0, seed=1)
    except UnrollError as error:
        assert str(folder) in str(error), error
        return False
    text = train.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    lines = [line for line in text.split("\n")[1:] if line]
    found = rows[rows["part"] == "train"]
    assert found["text"].tolist() == [line.split("\t")[2] for line in lines]
    assert found["id"].tolist() == [line.split("\t")[0] for line in lines]
    assert found["true:Sentiment"].tolist() == [float(line.split("\t")[3]) for line in lines]
    return True


def zipped(name: str, content: bytes) -> bytes:
    """Return a zip archive with one member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def refuses(read: Callable[[], object]) -> str:
    """Return the sentence that a reader refuses with."""
    try:
        read()
    except UnrollError as error:
        return str(error)
    raise AssertionError("was not refused")
