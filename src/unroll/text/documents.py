"""From documents to a corpus for a language model: tokens in the vocabulary of a task and its corpus together."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Self

import joblib
import numpy as np
import numpy.typing as npt

from unroll.core.errors import UnrollError
from unroll.core.settings import PretrainConfig, TextConfig
from unroll.data.corpora import Document
from unroll.text.corpus import Corpus, Ints, make_offsets
from unroll.text.encode import EncodedRows
from unroll.text.vocabulary import TokenIds, Tokenizer, Vocabulary, build_vocabulary, get_tokenizer

BEGIN, END = "<s>", "</s>"  # before and after each document
HELD_OUT = 0  # the fold of the documents that are not trained on
SHARE_HELD_OUT = 0.01
FEW = 20  # documents, of which none can be spared
BATCH = 500  # documents that a process tokenizes at once


@dataclass(frozen=True)
class TokenizedDocuments:
    """D documents, their tokens numbered in order of appearance."""

    numbers: TokenIds  # tokens of all documents end to end, begin and end of each included, (N,)
    offsets: Ints  # where each document begins, and N at the end, (D + 1,)
    tokens: Sequence[str]  # the V different tokens
    labels: tuple[str, ...]  # the L different labels in alphabetical order
    targets: npt.NDArray[np.float32]  # number of each document's label, NaN without one, (D,)

    @classmethod
    def of_rows(cls, rows: EncodedRows) -> Self:
        """Return a task's own sequences, of the test part too, as documents without labels."""
        lengths, count = np.diff(rows.corpus.offsets), len(rows.corpus)
        offsets = make_offsets(lengths + 2)
        numbers = np.zeros(offsets[-1], dtype=np.int32)  # BEGIN
        numbers[offsets[1:] - 1] = 1  # END
        is_token = np.ones(len(numbers), dtype=np.bool_)
        is_token[offsets[:-1]] = is_token[offsets[1:] - 1] = False
        numbers[is_token] = rows.corpus.tokens + 2
        return cls(numbers, offsets, [BEGIN, END, *rows.tokens], (), np.full(count, np.nan, np.float32))

    def counts(self) -> Counter[str]:
        """Return how often each token occurs."""
        counts = np.bincount(self.numbers, minlength=len(self.tokens)).tolist()
        return Counter(dict(zip(self.tokens, counts, strict=True)))


def tokenize_documents(
    documents: Iterable[Document], config: TextConfig, tokenizer: str | None, *, label_first: bool = False
) -> TokenizedDocuments:
    """Tokenize documents as a task's texts, on all cores.

    Args:
        documents: at least one.
        config: of the task; texts are not truncated.
        tokenizer: in place of the task's, where that expects texts that are cut already.
        label_first: whether a document begins with its label, as `label_token` writes it, so that a model can be asked
            for texts of a label; it is then nothing to predict.
    """
    changes = {"max_tokens": None, **({"tokenizer": tokenizer} if tokenizer else {})}
    split = get_tokenizer(config.model_copy(update=changes))
    numbers: dict[str, int] = {BEGIN: 0, END: 1}
    tokens, lengths, labels = array("i"), array("q"), list[str | None]()
    for label, row in _tokenize_all(documents, split):
        begin = label_token(label) if label_first and label is not None else BEGIN
        ids = [numbers.setdefault(token, len(numbers)) for token in (begin, *row, END)]
        tokens.extend(ids)
        lengths.append(len(ids))
        labels.append(None if label_first else label)
    known = tuple(sorted({label for label in labels if label is not None}))
    places = {label: float(place) for place, label in enumerate(known)}
    targets = np.array([np.nan if label is None else places[label] for label in labels], dtype=np.float32)
    offsets = make_offsets(np.asarray(lengths))
    return TokenizedDocuments(np.array(tokens, dtype=np.int32), offsets, list(numbers), known, targets)


def _tokenize_all(documents: Iterable[Document], split: Tokenizer) -> Iterator[tuple[str | None, list[str]]]:
    def tokenize(batch: Sequence[Document]) -> list[tuple[str | None, list[str]]]:
        return [(document.label, split(document.text)) for document in batch]

    rest = iter(documents)
    batches = iter(lambda: list(islice(rest, BATCH)), [])
    first = next(batches, [])
    yield from tokenize(first)
    if len(first) == BATCH:
        parallel = joblib.Parallel(n_jobs=-1, return_as="generator")
        yield from chain.from_iterable(parallel(joblib.delayed(tokenize)(each) for each in batches))


def label_token(label: str) -> str:
    """Return the token that stands for a label at the beginning of a document."""
    return f"<{label}>"


def join_vocabularies(task: Vocabulary, documents: TokenizedDocuments, config: PretrainConfig) -> Vocabulary:
    """Return a task's vocabulary with the documents' words added, by descending frequency."""
    words = build_vocabulary(documents.counts(), config.min_count, config.max_size).tokens[1:]
    return task.append((BEGIN, END, *words))


def make_document_corpus(documents: TokenizedDocuments, vocabulary: Vocabulary, chunk: int, seed: int) -> Corpus:
    """Cut documents into sequences of so many tokens, each one span with the label of its document.

    One document in a hundred, at least one and at random, is held out, in fold 0; the others are in fold 1. Of fewer
    than FEW documents it is their pieces.

    Raises:
        UnrollError: there is one piece alone.
    """
    count = len(documents.targets)
    lengths = np.diff(documents.offsets)
    pieces = -(-lengths // chunk)  # (D,)
    owner = np.repeat(np.arange(count), pieces)  # (S,)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    if len(owner) < 2:
        raise UnrollError(
            f"pretrain.corpus: found {len(documents.numbers)} tokens, expected more than pretrain.chunk, {chunk}; use "
            "a larger corpus or lower it in params.yaml"
        )
    units = np.arange(len(owner)) if count < FEW else owner  # what is held out whole
    size = int(units[-1]) + 1
    is_held_out = np.zeros(size, dtype=np.bool_)
    is_held_out[np.random.default_rng(seed).permutation(size)[: max(1, round(SHARE_HELD_OUT * size))]] = True
    # of nearly equal length, so that none is a rest of a token or two
    starts = number * lengths[owner] // pieces[owner]
    sizes = (number + 1) * lengths[owner] // pieces[owner] - starts
    ids = vocabulary.encode(documents.tokens)
    return Corpus(
        tokens=ids[documents.numbers],
        offsets=make_offsets(sizes),
        folds=np.where(is_held_out, HELD_OUT, 1)[units],
        span_offsets=np.arange(len(owner) + 1),
        starts=np.zeros(len(owner), dtype=np.int64),
        ends=sizes,
        targets=documents.targets[owner][:, None],
        row_ids=np.arange(len(owner)),
    )
