"""Tokens: how a text is split into them, which ones are known, and their numbers."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from torchtext.data.utils import get_tokenizer as get_torchtext_tokenizer

from unroll.core.errors import UnrollError
from unroll.core.settings import TextConfig

UNKNOWN = "<unk>"
UNKNOWN_ID = 0
TokenIds = npt.NDArray[np.int32]
Tokenizer = Callable[[str], list[str]]


def get_tokenizer(config: TextConfig) -> Tokenizer:
    """Return the function that splits a text into tokens, at most max_tokens; a blank text has none."""
    splitters: dict[str, Tokenizer] = {"characters": list, "whitespace": str.split, "treebank": split_as_treebank}
    split = splitters.get(config.tokenizer) or get_torchtext_tokenizer(config.tokenizer)
    is_cased = config.tokenizer == "treebank"  # capitals show where a sentence begins
    most = config.max_tokens
    first = {"head": most, "tail": 0, "both": (most or 0) // 2}[config.truncate] or 0

    def tokenize(text: str) -> list[str]:
        tokens = split(text.lower() if config.lower and not is_cased else text)
        if config.lower and is_cased:
            tokens = [token.lower() for token in tokens]
        if most is None or len(tokens) <= most:
            return tokens
        return tokens[:first] + tokens[len(tokens) - (most - first) :]

    return tokenize


SENTENCE_END = re.compile(
    r"(?<!\b[A-Z]\.)(?<!\b(?:Mr|Ms|Dr|St|Jr|Sr|vs)\.)(?<!\bMrs\.)"  # not after an initial or a title
    r"""(?<=[.!?])(["')\]]*)\s+(?=["'(\[]*[A-Z0-9])"""
)


def split_as_treebank(text: str) -> list[str]:
    """Split a text as the Penn Treebank's are: `is n't`, `-LRB-` for a bracket, and `` and '' for quotation marks."""
    splitter = _treebank_splitter()
    sentences = SENTENCE_END.sub(r"\1\n", text).split("\n")  # a full stop is split off at the end of a sentence only
    return [token for sentence in sentences for token in splitter.tokenize(sentence, convert_parentheses=True)]


@cache
def _treebank_splitter() -> Any:
    from nltk.tokenize.treebank import TreebankWordTokenizer  # takes a second to load, and few tasks need it

    return TreebankWordTokenizer()


@dataclass(frozen=True)
class Vocabulary:
    """V tokens by number. Number 0 is the unknown token, which stands for every token that is not listed."""

    tokens: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the tokens.

        Raises:
            UnrollError: a token is listed twice, or the first one is not the unknown token.
        """
        object.__setattr__(self, "_ids", {token: number for number, token in enumerate(self.tokens)})
        if len(self._ids) < len(self.tokens) or self.tokens[:1] != (UNKNOWN,):
            raise UnrollError(f"vocabulary: tokens must differ and begin with {UNKNOWN!r}, found {self.tokens[:3]}")

    def __len__(self) -> int:
        """Return V, the unknown token included."""
        return len(self.tokens)

    def encode(self, tokens: Sequence[str]) -> TokenIds:
        """Return the tokens' numbers, (len(tokens),)."""
        ids = self._ids
        return np.fromiter((ids.get(token, UNKNOWN_ID) for token in tokens), dtype=np.int32, count=len(tokens))

    def append(self, tokens: Iterable[str]) -> "Vocabulary":
        """Add the tokens that are not yet listed, in their order, after those that are."""
        return Vocabulary((*self.tokens, *(token for token in dict.fromkeys(tokens) if token not in self._ids)))

    def restrict(self, known: npt.NDArray[np.bool_]) -> tuple["Vocabulary", TokenIds]:
        """Keep only some tokens.

        Args:
            known: true for each token to keep, (V,); the unknown token is always kept.

        Returns:
            The smaller vocabulary, and the new number of each old one, (V,).
        """
        known = known.copy()
        known[UNKNOWN_ID] = True
        new_ids = np.where(known, np.cumsum(known) - 1, UNKNOWN_ID).astype(np.int32)
        return Vocabulary(tuple(np.array(self.tokens, dtype=object)[known])), new_ids


def build_vocabulary(counts: Counter[str], min_count: int = 1, max_size: int | None = None) -> Vocabulary:
    """Number tokens by descending frequency, those of equal frequency in alphabetical order.

    Args:
        counts: how often each token occurs in the training part.
        min_count: a token that occurs fewer times is unknown.
        max_size: how many tokens to keep, not counting the unknown one; None keeps all.
    """
    ranked = sorted((-count, token) for token, count in counts.items() if count >= min_count and token != UNKNOWN)
    return Vocabulary((UNKNOWN, *(token for _, token in ranked[:max_size])))
