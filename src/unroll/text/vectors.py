"""Pretrained word vectors, read by torchtext's loader."""

import hashlib
import pickle
import ssl
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torchtext import vocab as torchtext_vocab

from unroll.core.errors import UnrollError
from unroll.text.vocabulary import Vocabulary


def load_vectors(name: str, vocabulary: Vocabulary, cache: Path) -> npt.NDArray[np.float32]:
    """Load pretrained word vectors for a vocabulary, with torchtext's own loader.

    Args:
        name: a local text file (one word and its numbers a line), or one of torchtext's names such as
            "glove.6B.100d", which is downloaded.
        vocabulary: the words to look up; a word without a vector is looked up in lower case too.
        cache: folder where the loader keeps what it has read. A local file gets a folder named by its sha256, since
            the loader itself looks only at a file's base name.

    Returns:
        Vectors of shape (len(vocabulary), size), NaN rows for words without one.

    Raises:
        UnrollError: no such file or name, or the file's lines are not a word and equally many numbers.
    """
    path = Path(name)
    https_context = ssl._create_default_https_context
    try:
        if path.is_file():
            folder = cache / hashlib.sha256(path.read_bytes()).hexdigest()
            folder.mkdir(parents=True, exist_ok=True)
            loaded = torchtext_vocab.Vectors(name=str(path), cache=str(folder))
        elif name in torchtext_vocab.pretrained_aliases:
            loaded = torchtext_vocab.pretrained_aliases[name](cache=str(cache))
        else:
            known = ", ".join(sorted(torchtext_vocab.pretrained_aliases))
            raise UnrollError(f"vectors {name!r}: no such file, and not one of {known}")
    except pickle.UnpicklingError:  # the loader's own cache; torch reads numbers from it and runs nothing
        raise UnrollError(f"{cache}: what was kept of {name} is damaged; delete that folder") from None
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UnrollError(f"{name}: expected a word and equally many numbers on each line; {reason}") from None
    finally:
        # The loader switches off certificate checks for the whole process; switch them on again.
        ssl._create_default_https_context = https_context
    if loaded.dim is None or not len(loaded.itos):
        raise UnrollError(f"{name}: expected a word and equally many numbers on each line, found no such line")
    found = [loaded.stoi.get(token, loaded.stoi.get(token.lower())) for token in vocabulary.tokens]
    vectors = np.full((len(vocabulary), loaded.dim), np.nan, dtype=np.float32)
    rows = [row for row, number in enumerate(found) if number is not None]
    vectors[rows] = loaded.vectors[[found[row] for row in rows]].numpy()
    return vectors


def join_vectors(parts: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Put several sets of vectors side by side.

    Args:
        parts: vectors of one vocabulary, each (V, its size), NaN rows for words without one.

    Returns:
        Vectors of (V, the sum of the sizes). A word that some sets lack has zeros in their place, and one that all of
        them lack a NaN row.
    """
    joined = np.concatenate([np.nan_to_num(part) for part in parts], axis=1)
    joined[~np.any([np.isfinite(part).all(1) for part in parts], axis=0)] = np.nan
    return joined
