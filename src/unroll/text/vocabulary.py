"""Tokenizers, the vocabulary and pretrained vectors: the only importer of torchtext.

torchtext 0.6.0 is the last release in pure Python; the later ones carry a C++ library that does not load with a
torch newer than 2.3.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torchtext import vocab as torchtext_vocab

from unroll.core.errors import UnrollError

UNKNOWN = "<unk>"
UNKNOWN_ID = 0
TokenIds = npt.NDArray[np.int32]


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
