"""Ragged arrays: sequences of tokens, the spans in them and their labels, on disk, in memory and in batches.

Nothing here is padded. Sequences lie end to end in one array, and a batch holds sequences of one length only, so that
neither masks nor packed sequences are needed and a recurrent layer computes real tokens alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from unroll.config import TextConfig
from unroll.errors import UnrollError
from unroll.text import UNKNOWN, TokenIds, Vocabulary, get_tokenizer

Ints = npt.NDArray[np.int64]
TEST_FOLD = -1


@dataclass(frozen=True)
class Corpus:
    """S sequences with N tokens in all, and R spans in them, the spans of a sequence next to each other.

    Attributes:
        tokens: the sequences' tokens end to end, (N,) int32.
        offsets: where each sequence begins in `tokens`, and N at the end, (S + 1,).
        folds: fold of each sequence, -1 in the test part, (S,).
        span_offsets: where each sequence's spans begin, and R at the end, (S + 1,).
        starts: first token of each span, counted from its sequence's beginning, (R,).
        ends: the token after the last one of each span, counted likewise, (R,).
        labels: class of each span, -1 where it is not known, (R,).
        row_ids: which row of the task each span answers, (R,).
    """

    tokens: TokenIds
    offsets: Ints
    folds: Ints
    span_offsets: Ints
    starts: Ints
    ends: Ints
    labels: Ints
    row_ids: Ints

    def __post_init__(self) -> None:
        """Check that the arrays fit each other.

        Raises:
            ValueError: they do not.
        """
        per_span = {len(self.starts), len(self.ends), len(self.labels), len(self.row_ids), int(self.span_offsets[-1])}
        per_sequence = {len(self.folds), len(self.offsets) - 1, len(self.span_offsets) - 1}
        if len(per_span) > 1 or len(per_sequence) > 1 or self.offsets[-1] != len(self.tokens):
            raise ValueError("the corpus' arrays do not fit each other")

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self.folds)

    def save(self, folder: Path) -> None:
        """Write each array as `<name>.npy`, which can be memory-mapped."""
        folder.mkdir(parents=True, exist_ok=True)
        for item in fields(self):
            np.save(folder / f"{item.name}.npy", getattr(self, item.name))

    def spans_of(self, sequences: Ints) -> Ints:
        """Return the numbers of the spans that lie in the given sequences, in the order of the sequences."""
        first, counts = self.span_offsets[sequences], np.diff(self.span_offsets)[sequences]
        return _ranges(first, counts)

    def tokens_of(self, sequences: Ints) -> TokenIds:
        """Return the tokens of the given sequences end to end."""
        return self.tokens[_ranges(self.offsets[sequences], np.diff(self.offsets)[sequences])]


def load_corpus(folder: Path) -> Corpus:
    """Open the arrays that Corpus.save wrote, memory-mapped and read-only.

    Raises:
        UnrollError: an array is missing or damaged, or the arrays do not fit each other.
    """
    arrays = {}
    for item in fields(Corpus):
        path = folder / f"{item.name}.npy"
        try:
            arrays[item.name] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UnrollError(f"{path}: not a whole array file ({error}); run the tokenize stage again") from None
    try:
        return Corpus(**arrays)
    except ValueError as error:
        raise UnrollError(f"{folder}: {error}; run the tokenize stage again") from None


@dataclass(frozen=True)
class Batch:
    """B sequences of one length T and the R spans in them.

    Attributes:
        tokens: (B, T) int64.
        sequence: which of the B sequences each span lies in, (R,).
        start: first token of each span, (R,).
        end: the token after the last one, (R,).
        labels: class of each span, -1 where it is not known, (R,).
        spans: number of each span in the corpus, (R,).
    """

    tokens: Tensor
    sequence: Tensor
    start: Tensor
    end: Tensor
    labels: Tensor
    spans: Tensor

    def with_tokens(self, tokens: Tensor) -> "Batch":
        """Return the same spans over other tokens, (B, T)."""
        return replace(self, tokens=tokens)

    def part(self, first: int, last: int) -> "Batch":
        """Return the sequences from first to last, the last not included, and the spans in them."""
        inside = (self.sequence >= first) & (self.sequence < last)  # (R,)
        spans = {name: getattr(self, name)[inside] for name in ("start", "end", "labels", "spans")}
        return Batch(tokens=self.tokens[first:last], sequence=self.sequence[inside] - first, **spans)

    def to(self, device: torch.device) -> "Batch":
        """Return the same batch on another device."""
        return Batch(**{item.name: getattr(self, item.name).to(device, non_blocking=True) for item in fields(self)})


def iterate_batches(
    corpus: Corpus, sequences: Ints, batch_size: int, generator: np.random.Generator | None = None
) -> Iterator[Batch]:
    """Yield batches that hold each of the given sequences once, each batch of one length.

    Args:
        corpus: the arrays to read.
        sequences: numbers of the sequences to read.
        batch_size: the most sequences in a batch.
        generator: shuffles which sequences share a batch, and the batches; None goes from short to long.
    """
    for chunk in plan_batches(np.diff(corpus.offsets)[sequences], batch_size, generator):
        yield make_batch(corpus, sequences[chunk])


def plan_batches(lengths: Ints, batch_size: int, generator: np.random.Generator | None = None) -> list[Ints]:
    """Deal sequences of the given lengths, (S,), into batches of one length: lists of positions in `lengths`."""
    order = np.arange(len(lengths)) if generator is None else generator.permutation(len(lengths))
    order = order[np.argsort(lengths[order], kind="stable")]
    borders = np.flatnonzero(np.diff(lengths[order])) + 1
    chunks = [
        run[first : first + batch_size] for run in np.split(order, borders) for first in range(0, len(run), batch_size)
    ]
    return chunks if generator is None else [chunks[number] for number in generator.permutation(len(chunks))]


def make_batch(corpus: Corpus, sequences: Ints) -> Batch:
    """Gather sequences of one length and their spans."""
    length = int(corpus.offsets[sequences[0] + 1] - corpus.offsets[sequences[0]])
    spans = corpus.spans_of(sequences)
    counts = corpus.span_offsets[sequences + 1] - corpus.span_offsets[sequences]
    tokens = corpus.tokens[corpus.offsets[sequences][:, None] + np.arange(length)]  # (B, T)
    return Batch(
        tokens=torch.from_numpy(tokens.astype(np.int64)),
        sequence=torch.from_numpy(np.repeat(np.arange(len(sequences)), counts)),
        start=torch.from_numpy(corpus.starts[spans]),
        end=torch.from_numpy(corpus.ends[spans]),
        labels=torch.from_numpy(corpus.labels[spans]),
        spans=torch.from_numpy(spans),
    )


def build_corpus(
    vocabulary: Vocabulary, sequences: Sequence[Sequence[str]], folds: Ints, spans: "Spans", labels: Ints, row_ids: Ints
) -> Corpus:
    """Number the tokens of sequences and sort the spans by the sequence they lie in.

    Args:
        vocabulary: gives the numbers.
        sequences: S token lists, none of them empty.
        folds: of each sequence, (S,).
        spans: one for each of the R rows.
        labels: of each row, (R,).
        row_ids: of each row, (R,).
    """
    order = np.argsort(spans.sequence, kind="stable")
    return Corpus(
        tokens=vocabulary.encode([token for sequence in sequences for token in sequence]),
        offsets=_offsets(np.array([len(sequence) for sequence in sequences], dtype=np.int64)),
        folds=folds,
        span_offsets=_offsets(np.bincount(spans.sequence, minlength=len(sequences))),
        starts=spans.start[order],
        ends=spans.end[order],
        labels=labels[order],
        row_ids=row_ids[order],
    )


@dataclass(frozen=True)
class Spans:
    """Where each of R rows lies: its sequence and the tokens from start to end, the end not included; all (R,)."""

    sequence: Ints
    start: Ints
    end: Ints


def cut_rows(rows: pd.DataFrame, config: TextConfig) -> tuple[list[list[str]], Spans, Ints]:
    """Cut a task's table of rows into tokens and place every row as a span of a sequence.

    Args:
        rows: has the columns text, group and fold; no group crosses folds.
        config: how to cut, and whether a row is read in its group's sequences or alone.

    Returns:
        S sequences, a span for each row, and the fold of each sequence, (S,).
    """
    tokenize = get_tokenizer(config)
    groups = rows["group"].tolist() if config.context == "sentence" else None
    sequences, spans = place_rows([tokenize(text) for text in rows["text"]], groups)
    _, first_rows = np.unique(spans.sequence, return_index=True)
    return sequences, spans, rows["fold"].to_numpy()[first_rows]  # the first row's fold is that of all


def place_rows(rows: Sequence[list[str]], groups: Sequence[str] | None) -> tuple[list[list[str]], Spans]:
    """Place every row as a span of a sequence.

    Args:
        rows: tokens of each row, (R,). A row with no token is read as one unknown token.
        groups: group of each row, (R,). A row that stands, whole, in an earlier sequence of its group becomes a span
            of that sequence; any other becomes a sequence of its own. With None every row becomes a sequence.

    Returns:
        The sequences, in the order of their first row, and R spans.
    """
    sequences: list[list[str]] = []
    placer = Placer()
    places = np.empty((len(rows), 3), dtype=np.int64)
    for number, row in enumerate(rows):
        tokens = row or [UNKNOWN]
        sequence, start = placer.place(tokens, groups[number] if groups is not None else None)
        if sequence == len(sequences):
            sequences.append(tokens)
        places[number] = sequence, start, start + len(tokens)
    return sequences, Spans(*places.T.copy())


class Placer:
    """Finds each row a place in a sequence: an earlier one of its group that holds it whole, or a new one."""

    def __init__(self) -> None:
        """Begin with no sequence."""
        self.sequences = 0
        self._groups: dict[str, list[tuple[int, list[str]]]] = {}

    def place(self, tokens: list[str], group: str | None) -> tuple[int, int]:
        """Return a row's sequence and its first token there; a new sequence has the number of those before it.

        Args:
            tokens: of the row, at least one.
            group: of the row; None makes every row a sequence of its own.
        """
        known = self._groups.setdefault(group, []) if group is not None else []
        for sequence, others in known:
            start = _find(others, tokens)
            if start >= 0:
                return sequence, start
        known.append((self.sequences, tokens))
        self.sequences += 1
        return self.sequences - 1, 0

    def forget(self, group: str) -> list[int]:
        """Return a group's sequences and let go of them; no row of it may come any more."""
        return [sequence for sequence, _ in self._groups.pop(group)]


def _find(sequence: list[str], tokens: list[str]) -> int:
    """Return where the tokens first stand in the sequence, -1 where they do not."""
    start = 0
    while True:
        try:
            start = sequence.index(tokens[0], start)
        except ValueError:
            return -1
        if sequence[start : start + len(tokens)] == tokens:
            return start
        start += 1


def _offsets(counts: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _ranges(first: Ints, counts: Ints) -> Ints:
    """Return first[0], first[0] + 1, … (counts[0] numbers), first[1], … end to end."""
    begins = np.cumsum(counts) - counts
    numbers: Ints = np.arange(counts.sum()) + np.repeat(first - begins, counts)
    return numbers
