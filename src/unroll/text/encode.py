"""From rows of text to a corpus: tokenize, align rows with sequences, number the tokens."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as parquet

from unroll.core.settings import TextConfig
from unroll.data.rows import TRUTH
from unroll.text.corpus import TEST_FOLD, Corpus, make_offsets
from unroll.text.vocabulary import UNKNOWN, Vocabulary, build_vocabulary, get_tokenizer

COLUMNS = ["row_id", "group", "text", "fold"]
Columns = Mapping[Any, Sequence[Any]]


@dataclass(frozen=True)
class EncodedRows:
    """A corpus whose tokens are numbered in order of appearance, as long as there is no vocabulary."""

    corpus: Corpus  # of the rows
    tokens: Sequence[str]  # the V different tokens by their number in the corpus

    def build_vocabulary(self, min_count: int = 1, max_size: int | None = None) -> Vocabulary:
        """Build the vocabulary of the training part's sequences; see vocabulary.build_vocabulary."""
        in_training = np.repeat(self.corpus.folds != TEST_FOLD, np.diff(self.corpus.offsets))  # (N,)
        counts = np.bincount(self.corpus.tokens[in_training], minlength=len(self.tokens))  # (V,)
        pairs = zip(self.tokens, counts.tolist(), strict=True)
        return build_vocabulary(Counter({token: count for token, count in pairs if count}), min_count, max_size)

    def with_vocabulary(self, vocabulary: Vocabulary) -> Corpus:
        """Return the corpus with the numbers of a vocabulary."""
        return replace(self.corpus, tokens=vocabulary.encode(self.tokens)[self.corpus.tokens])


@dataclass
class SpanAligner:
    """Places rows one by one: inside an earlier sequence of the same group, or else as a new sequence.

    A row is searched for in each sequence of its group, in time linear in the length of both.
    """

    sequences: int = 0
    _groups: dict[str, list[tuple[int, str]]] = field(default_factory=dict)

    def place(self, tokens: list[str], group: str | None) -> tuple[int, int]:
        """Return the row's sequence and the position of its first token there.

        A sequence that did not exist before has the number of those that did; the row is all of it.

        Args:
            tokens: of the row, at least one, none with a blank in it (without a group, any).
            group: of the row; None makes every row a sequence of its own.
        """
        if group is not None:
            known = self._groups.setdefault(group, [])
            row = f" {' '.join(tokens)} "  # str.find is linear and written in C, unlike a search in a list
            for sequence, text in known:
                start = text.find(row)
                if start >= 0:
                    return sequence, text.count(" ", 0, start)
            known.append((self.sequences, row))
        self.sequences += 1
        return self.sequences - 1, 0


def read_batches(rows: Path) -> Iterator[Columns]:
    """Yield COLUMNS and the truth of a table of rows, some thousands of rows at a time."""
    with parquet.ParquetFile(rows) as file:
        truth = [name for name in file.schema_arrow.names if name.startswith(TRUTH)]
        for batch in file.iter_batches(2**13, columns=[*COLUMNS, *truth], use_threads=False):
            yield batch.to_pydict()


def encode_rows(batches: Iterable[Columns], config: TextConfig) -> EncodedRows:
    """Tokenize rows and align them with sequences, in memory: about 100 bytes a row and 600 a group.

    With context "sentence", a row that occurs whole in an earlier sequence of its group becomes a span of it; any other
    row, and with context "phrase" every row, becomes a sequence. A row without a token is read as one unknown token.

    Args:
        batches: rows by column, with COLUMNS and the truth; no group crosses folds.
        config: the tokenizer and the context.
    """
    tokenize, aligner, is_grouped = get_tokenizer(config), SpanAligner(), config.context == "sentence"
    numbers: dict[str, int] = {}
    tokens, lengths, folds = array("i"), array("q"), array("q")  # (N,), (S,), (S,)
    sequences, starts, ends, row_ids = (array("q") for _ in range(4))  # (R,) each
    targets: list[npt.NDArray[np.float32]] = []
    for batch in batches:
        truth = [batch[name] for name in batch if name.startswith(TRUTH)]
        targets.append(np.array(truth, dtype=np.float32).T)
        row_ids.extend(batch["row_id"])
        for group, text, fold in zip(batch["group"], batch["text"], batch["fold"], strict=True):
            row = tokenize(text) or [UNKNOWN]
            sequence, start = aligner.place(row, group if is_grouped else None)
            if sequence == len(folds):
                tokens.extend([numbers.setdefault(token, len(numbers)) for token in row])
                lengths.append(len(row))
                folds.append(fold)
            sequences.append(sequence)
            starts.append(start)
            ends.append(start + len(row))
    del aligner
    order = np.argsort(sequences, kind="stable")
    corpus = Corpus(
        tokens=np.array(tokens, dtype=np.int32),
        offsets=make_offsets(np.asarray(lengths)),
        folds=np.asarray(folds),
        span_offsets=make_offsets(np.bincount(sequences)),
        starts=np.asarray(starts)[order],
        ends=np.asarray(ends)[order],
        targets=np.concatenate(targets)[order],
        row_ids=np.asarray(row_ids)[order],
    )
    return EncodedRows(corpus, list(numbers))


def encode_texts(texts: Sequence[str], config: TextConfig, vocabulary: Vocabulary) -> Corpus:
    """Encode whole texts, at least one: text number i is sequence i, with one span and an unknown truth."""
    size = len(texts)
    columns = {"row_id": range(size), "group": texts, "text": texts, "fold": [-1] * size, TRUTH: [np.nan] * size}
    return encode_rows([columns], config.model_copy(update={"context": "phrase"})).with_vocabulary(vocabulary)
