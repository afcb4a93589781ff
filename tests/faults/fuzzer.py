"""A program: atheris feeds one reader of the project bytes that it chooses by the branches they take."""

import shutil
import sys
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=[
        "unroll.data.texts",
        "unroll.data.tables",
        "unroll.text.vocabulary",
        "unroll.models.bundle",
        "unroll.core.files",
    ]
):
    from unroll.models.bundle import load_bundle
    from unroll.text.vectors import load_vectors
    from unroll.text.vocabulary import Vocabulary

from tests.faults.fuzz import check_texts
from unroll.core.errors import UnrollError

FOLDER = Path.cwd() / "read"


def texts(content: bytes) -> None:
    """Read them as predict does."""
    kinds = ("csv", "tsv", "lines")
    check_texts(content[1:], kinds[content[0] % 3] if content else "lines")  # type: ignore[arg-type]


def vectors(content: bytes) -> None:
    """Read them as word vectors."""
    (FOLDER / "v.txt").write_bytes(content)
    shutil.rmtree(FOLDER / "cache", ignore_errors=True)
    with suppress(UnrollError):
        load_vectors(str(FOLDER / "v.txt"), Vocabulary(("<unk>", "good")), FOLDER / "cache")


def bundle(content: bytes) -> None:
    """Read them as a bundle's description, the weights being anything."""
    (FOLDER / "bundle.json").write_bytes(content)
    (FOLDER / "weights.safetensors").write_bytes(content)
    with suppress(UnrollError):
        load_bundle(FOLDER)


if __name__ == "__main__":
    FOLDER.mkdir()
    reader = {"texts": texts, "vectors": vectors, "bundle": bundle}[sys.argv.pop(1)]
    atheris.Setup(sys.argv, reader)
    atheris.Fuzz()
