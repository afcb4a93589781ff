"""Corpora of other texts, to learn a language from: documents, some with a label, from wherever they are."""

import gzip
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pooch
from requests import RequestException

from unroll.core.errors import UnrollError, brief
from unroll.core.files import check_archive
from unroll.core.settings import CorpusConfig, DataConfig
from unroll.data.tables import ZIP_ERRORS, TextFile

ROWS = "rows"  # the source that stands for the task's own texts
ARCHIVES = (".tar.gz", ".tar", ".zip")
TABLES = (".csv", ".tsv", ".jsonl")
# The Large Movie Review Dataset (Maas et al., 2011) keeps a review a file, in train/pos/, test/neg/, train/unsup/ …
LABELLED = re.compile(r"(?:^|/)(?:train|test)/([^/]+)/[^/]+\.txt$")
UNLABELLED = "unsup"
FAULTS = (OSError, tarfile.TarError, UnicodeDecodeError, *ZIP_ERRORS)


@dataclass(frozen=True)
class Document:
    """A text, and the label that its corpus gives it, if any."""

    text: str
    label: str | None = None


def find_corpus(name: str, corpus: CorpusConfig, data: DataConfig, cache: Path) -> Path | None:
    """Return a corpus' file or folder, the path that `source` names or the file of its address; None for ROWS.

    That file is looked for in data.dir and its folder corpora/, and else downloaded once into the cache.

    Raises:
        UnrollError: there is no such file, or it cannot be downloaded.
    """
    if corpus.source == ROWS:
        return None
    if "://" not in corpus.source:
        if not Path(corpus.source).exists():
            raise UnrollError(f"params.yaml: corpora.{name}.source: found {corpus.source}, which is no file or folder")
        return Path(corpus.source)
    file = corpus.source.rpartition("/")[2]
    for folder in (Path(data.dir), Path(data.dir, "corpora")):
        if (folder / file).is_file():
            return folder / file
    pooch.get_logger().setLevel("WARNING")
    options = {"path": cache / "corpora", "fname": file, "progressbar": sys.stderr.isatty()}
    try:
        return Path(pooch.retrieve(corpus.source, corpus.checksum, **options))
    except (RequestException, ValueError, OSError) as error:
        found = f"cannot be downloaded ({brief(error)}); put {file} into {data.dir} instead"
        raise UnrollError(f"corpora.{name}: {corpus.source} {found}") from None


def read_documents(path: Path, corpus: CorpusConfig) -> Iterator[Document]:
    """Yield the documents of a corpus, each different text once, blank ones left out.

    An archive or a folder has a text a file (.txt), as in the Large Movie Review Dataset or without labels; a table
    (.csv, .tsv, .jsonl) has one a row; any other file has one a line.

    Raises:
        UnrollError: the corpus cannot be read, is incomplete, or has no text.
    """
    seen: set[int] = set()
    try:
        for document in _read(path, corpus):
            key = hash(document.text)
            if document.text.strip() and key not in seen:
                seen.add(key)
                yield document
    except FAULTS as error:
        raise UnrollError(f"{path}: damaged or incomplete ({brief(error)}); get the file again") from None
    if not seen:
        raise UnrollError(f"{path}: found no texts; expected .txt files, a table, or one text per line")


def _read(path: Path, corpus: CorpusConfig) -> Iterator[Document]:
    if path.is_dir():
        return _of_files((str(file.relative_to(path)), file.read_bytes()) for file in sorted(path.rglob("*.txt")))
    if path.name.endswith(ARCHIVES):
        return _of_files(_read_zip(path) if path.suffix == ".zip" else _read_tar(path))
    if path.suffix in TABLES:
        return _read_table(path, corpus)
    return (Document(line) for line in TextFile(path, path.name).read_lines())


def _of_files(files: Iterator[tuple[str, bytes]]) -> Iterator[Document]:
    """Yield the documents of text files by name: the labelled layout's files alone if there are any, or else all."""
    others, is_labelled = [], False
    for name, content in files:
        if found := LABELLED.search(name):
            is_labelled = True
            yield Document(_decode(content, name), None if found[1] == UNLABELLED else found[1])
        elif not is_labelled:
            others.append((name, content))
    if not is_labelled:
        yield from (Document(_decode(content, name)) for name, content in others)


def _decode(content: bytes, name: str) -> str:
    try:
        return re.sub(r"<br\s*/?>", " ", content.decode("utf-8-sig"))  # the reviews are pieces of web pages
    except UnicodeDecodeError as error:
        raise UnrollError(f"{name}: byte {error.start} is not UTF-8; convert it to UTF-8") from None


def _read_tar(path: Path) -> Iterator[tuple[str, bytes]]:
    with (
        path.open("rb") if path.suffix == ".tar" else gzip.open(path) as stream,
        tarfile.open(fileobj=stream) as archive,
    ):
        for member in archive:
            content = archive.extractfile(member) if member.isfile() and member.name.endswith(".txt") else None
            if content is not None:
                yield member.name, content.read()
        while stream.read(1 << 20):  # to the end, where gzip compares its checksum
            pass


def _read_zip(path: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        check_archive(archive, path)
        for name in sorted(archive.namelist()):
            if name.endswith(".txt"):
                yield name, archive.read(name)


def _read_table(path: Path, corpus: CorpusConfig) -> Iterator[Document]:
    file = TextFile(path, path.name)
    header, columns = file.read_header(), [corpus.text or "text", *([corpus.label] if corpus.label else [])]
    for key, column in zip(("text", "label"), columns, strict=False):
        if column not in header:
            raise UnrollError(f"{path}: no column {column!r}, which the corpus' {key} names; found {', '.join(header)}")
    table = file.read_columns(columns)
    texts = table[columns[0]].to_pylist()
    labels = table[columns[1]].to_pylist() if corpus.label else [None] * len(texts)
    return (Document(text, label or None) for text, label in zip(texts, labels, strict=True))
