"""Tokenizers, the vocabulary and pretrained vectors: the only importer of torchtext.

torchtext 0.6.0 is the last release in pure Python; the later ones carry a C++ library that does not load with a
torch newer than 2.3.
"""

import hashlib
import pickle
import ssl
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torchtext import vocab as torchtext_vocab
from torchtext.data.utils import get_tokenizer as get_torchtext_tokenizer

from unroll.config import TextConfig
from unroll.errors import UnrollError

UNKNOWN = "<unk>"
UNKNOWN_ID = 0

Tokenizer = Callable[[str], list[str]]
TokenIds = npt.NDArray[np.int32]


def get_tokenizer(config: TextConfig) -> Tokenizer:
    """Return the function that cuts a text into tokens. A text with no token in it gives an empty list."""
    if config.tokenizer == "characters":
        cut: Tokenizer = list
    elif config.tokenizer == "whitespace":
        cut = str.split
    else:
        cut = get_torchtext_tokenizer(config.tokenizer)
    return (lambda text: cut(text.lower())) if config.lower else cut


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by their number. Number 0 is the unknown token; every token that is not here is read as it."""

    tokens: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the tokens.

        Raises:
            UnrollError: a token stands twice, or the first one is not the unknown token.
        """
        object.__setattr__(self, "_ids", {token: number for number, token in enumerate(self.tokens)})
        if len(self._ids) < len(self.tokens) or self.tokens[:1] != (UNKNOWN,):
            raise UnrollError(f"vocabulary: tokens must differ and begin with {UNKNOWN!r}, found {self.tokens[:3]}")

    def __len__(self) -> int:
        """Return the number of tokens, the unknown one included."""
        return len(self.tokens)

    def encode(self, tokens: Sequence[str]) -> TokenIds:
        """Return the tokens' numbers, shape (len(tokens),)."""
        ids = self._ids
        return np.fromiter((ids.get(token, UNKNOWN_ID) for token in tokens), dtype=np.int32, count=len(tokens))

    def extend(self, tokens: Iterable[str]) -> "Vocabulary":
        """Add the tokens that are not here yet, by the alphabet, after those that are."""
        return Vocabulary((*self.tokens, *sorted(set(tokens) - self._ids.keys())))

    def restrict(self, known: npt.NDArray[np.bool_]) -> tuple["Vocabulary", TokenIds]:
        """Keep only the tokens that are marked as known.

        Args:
            known: shape (len(self),), true for a token to keep; the unknown token is always kept.

        Returns:
            The smaller vocabulary, and for each old number the new one, shape (len(self),).
        """
        known = known.copy()
        known[UNKNOWN_ID] = True
        new_ids = np.where(known, np.cumsum(known) - 1, UNKNOWN_ID).astype(np.int32)
        return Vocabulary(tuple(np.array(self.tokens, dtype=object)[known])), new_ids


def build_vocabulary(texts: Iterable[Sequence[str]], min_count: int = 1, max_size: int | None = None) -> Vocabulary:
    """Number the tokens of tokenized texts, the most frequent first, equal ones by the alphabet.

    Args:
        texts: token lists of the training part, and of nothing else.
        min_count: a token that stands fewer times is unknown.
        max_size: how many tokens are kept, the unknown one not counted; None keeps all.
    """
    return number_tokens(Counter(token for text in texts for token in text), min_count, max_size)


def number_tokens(counts: Counter[str], min_count: int = 1, max_size: int | None = None) -> Vocabulary:
    """Number counted tokens, as build_vocabulary does those that it counts."""
    built = torchtext_vocab.Vocab(counts, max_size=max_size, min_freq=min_count, specials=[UNKNOWN])
    return Vocabulary(tuple(built.itos))


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
