"""A table of rows that may be larger than memory, cut into a corpus on disk batch by batch.

What stays in memory is the vocabulary, 17 bytes a group, and the groups whose last row has not been read: one at a
time where the rows of a group stand together, as in a competition's files, and all of them in a table that is shuffled.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet

from unroll.core.settings import TextConfig
from unroll.text.corpus import TEST_FOLD
from unroll.text.spans import Ints, SpanAligner
from unroll.text.tokenizer import get_tokenizer
from unroll.text.vocabulary import UNKNOWN, UNKNOWN_ID, TokenIds

BATCH = 2**13  # rows that are read at a time
WAITING = 2**18  # tokens that wait to be written


@dataclass(frozen=True)
class Draft:
    """A corpus on disk whose tokens are numbered in the order in which they appear, until `finish_corpus`.

    Attributes:
        folder: holds the arrays of corpus.Corpus, each as `<name>.npy`.
        tokens: the V different tokens of all sequences by that number.
        train_counts: how often each stands in sequences of the training part, (V,).
        test_counts: likewise in the test part, (V,).
        rows: number of rows.
        sequences: number of sequences.
    """

    folder: Path
    tokens: list[str]
    train_counts: Ints
    test_counts: Ints
    rows: int
    sequences: int

    @property
    def counts(self) -> Counter[str]:
        """Return how often each token of the training part stands in it."""
        pairs = zip(self.tokens, self.train_counts.tolist(), strict=True)
        return Counter({token: count for token, count in pairs if count})

    @property
    def size(self) -> int:
        """Return the number of tokens in all sequences."""
        return int(self.train_counts.sum() + self.test_counts.sum())

    def unknown_share(self, numbers: TokenIds) -> float | None:
        """Return the share of the test part's tokens that are unknown by their new numbers, None without a test part.

        Args:
            numbers: the new number of each token, (V,).
        """
        total = int(self.test_counts.sum())
        return int(self.test_counts[numbers == UNKNOWN_ID].sum()) / total if total else None


def draft_corpus(rows: Path, folder: Path, config: TextConfig) -> Draft:
    """Cut a parquet file of rows into sequences and spans, as corpus.place_rows does, and write them into a folder.

    Args:
        rows: has the columns of rows.ROWS_SCHEMA; no group crosses folds.
        folder: an existing one, for the arrays.
        config: how to cut, and whether a row is read in its group's sequences or alone.
    """
    tokenize = get_tokenizer(config)
    closing = find_last_rows(rows) if config.context == "sentence" else None
    placer = SpanAligner()
    open_sequences: dict[int, _Sequence] = {}
    next_out = number = 0
    with ExitStack() as files:
        writer = _Writer(folder, files)
        for batch in read_batches(rows, ["row_id", "group", "text", "label", "fold"]):
            columns = [batch.column(name).to_pylist() for name in ("row_id", "group", "text", "label", "fold")]
            closes = None if closing is None else _mark(closing, number, len(columns[0]))
            for place, (row_id, group, text, label, fold) in enumerate(zip(*columns, strict=True)):
                tokens = tokenize(text) or [UNKNOWN]
                sequence, start = placer.place(tokens, None if closes is None else group)
                if sequence not in open_sequences:
                    open_sequences[sequence] = _Sequence(tokens, fold, is_closed=closes is None)
                open_sequences[sequence].spans.append((start, start + len(tokens), label, row_id))
                if closes is not None and closes[place]:
                    for closed in placer.forget(group):
                        open_sequences[closed].is_closed = True
                while next_out in open_sequences and open_sequences[next_out].is_closed:
                    writer.add(open_sequences.pop(next_out))
                    next_out += 1
                if len(writer.waiting_tokens) >= WAITING:
                    writer.flush()
            number += len(columns[0])
        writer.flush()
    return Draft(folder, list(writer.numbers), writer.counts[0], writer.counts[1], number, placer.sequences)


def finish_corpus(draft: Draft, numbers: TokenIds) -> None:
    """Give the tokens of a draft on disk their new numbers, (V,), in place."""
    path = draft.folder / "tokens.npy"
    tokens = np.load(path, mmap_mode="r", allow_pickle=False)
    begin, size = tokens.offset, len(tokens)
    del tokens
    with path.open("r+b") as file:  # read and written, not mapped: mapped pages would count as memory
        file.seek(begin)
        for first in range(0, size, 2**20):
            part = np.fromfile(file, dtype=np.int32, count=min(2**20, size - first))
            file.seek(begin + first * part.itemsize)
            file.write(numbers[part].tobytes())
            file.flush()


def read_batches(rows: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield a parquet file's rows, a bounded number at a time."""
    with parquet.ParquetFile(rows) as file:
        yield from file.iter_batches(batch_size=BATCH, columns=list(columns), use_threads=False)


def find_last_rows(rows: Path) -> Ints:
    """Return the number of the last row of every group, ascending.

    Groups are told apart by a hash of 64 bits, so that their names need no place; two groups with one hash would only
    be closed later.
    """
    hashes: list[npt.NDArray[np.uint64]] = []  # of the group of each run of rows, and where the run begins
    begins: list[Ints] = []
    number, before = 0, None
    for batch in read_batches(rows, ["group"]):
        hashed = pd.util.hash_array(batch.column("group").to_numpy(zero_copy_only=False))
        is_new = np.ones(len(hashed), dtype=bool)
        is_new[1:] = hashed[1:] != hashed[:-1]
        is_new[0] = before is None or hashed[0] != before
        hashes.append(hashed[is_new])
        begins.append(np.flatnonzero(is_new) + number)
        number, before = number + len(hashed), hashed[-1]
    if not number:
        return np.empty(0, dtype=np.int64)
    of_runs = np.concatenate(hashes)
    ends = np.concatenate([*begins, [number]])[1:] - 1
    _, last = np.unique(of_runs[::-1], return_index=True)
    return np.sort(ends[len(of_runs) - 1 - last])


def _mark(closing: Ints, first: int, size: int) -> list[bool]:
    """Return which of the rows from `first` on are the last of their group, (size,)."""
    inside = closing[np.searchsorted(closing, first) : np.searchsorted(closing, first + size)] - first
    marks = np.zeros(size, dtype=bool)
    marks[inside] = True
    return marks.tolist()


@dataclass
class _Sequence:
    """A sequence, and the spans in it so far: start, end, label and row id."""

    tokens: list[str]
    fold: int
    is_closed: bool
    spans: list[tuple[int, int, int, int]] = field(default_factory=list)


class _Writer:
    """Appends sequences to the arrays of a corpus, many at a time."""

    def __init__(self, folder: Path, files: ExitStack) -> None:
        """Create the files."""
        self.numbers: dict[str, int] = {}
        self.counts = np.zeros((2, 0), dtype=np.int64)  # of the tokens in the training and the test part
        whole = ("folds", "starts", "ends", "labels", "row_ids")
        self.files = {name: files.enter_context(ArrayFile(folder / f"{name}.npy", np.int64)) for name in whole}
        self.tokens = files.enter_context(ArrayFile(folder / "tokens.npy", np.int32))
        self.offsets = {
            name: files.enter_context(ArrayFile(folder / f"{name}.npy", np.int64))
            for name in ("offsets", "span_offsets")
        }
        self.ends = dict.fromkeys(self.offsets, 0)
        for file in self.offsets.values():
            file.append(np.zeros(1, dtype=np.int64))
        self._clear()

    def _clear(self) -> None:
        self.waiting = {name: array("q") for name in ("folds", "starts", "ends", "labels", "row_ids")}
        self.sizes = {"offsets": array("q"), "span_offsets": array("q")}
        self.waiting_tokens = array("i")

    def add(self, sequence: _Sequence) -> None:
        """Take a sequence, which is written at the next flush."""
        numbers = self.numbers
        self.waiting_tokens.extend([numbers.setdefault(token, len(numbers)) for token in sequence.tokens])
        self.sizes["offsets"].append(len(sequence.tokens))
        self.sizes["span_offsets"].append(len(sequence.spans))
        self.waiting["folds"].append(sequence.fold)
        for name, values in zip(
            ("starts", "ends", "labels", "row_ids"), zip(*sequence.spans, strict=True), strict=True
        ):
            self.waiting[name].extend(values)

    def flush(self) -> None:
        """Write what waits."""
        tokens = np.array(self.waiting_tokens, dtype=np.int32)
        lengths = np.array(self.sizes["offsets"], dtype=np.int64)
        is_test = np.repeat(np.array(self.waiting["folds"], dtype=np.int64) == TEST_FOLD, lengths)
        grown = np.zeros((2, len(self.numbers)), dtype=np.int64)
        grown[:, : self.counts.shape[1]] = self.counts
        for part, chosen in enumerate((~is_test, is_test)):
            grown[part] += np.bincount(tokens[chosen], minlength=len(self.numbers))
        self.counts = grown
        self.tokens.append(tokens)
        for name, file in self.files.items():
            file.append(np.array(self.waiting[name], dtype=np.int64))
        for name, file in self.offsets.items():
            offsets = self.ends[name] + np.cumsum(np.array(self.sizes[name], dtype=np.int64))
            file.append(offsets)
            self.ends[name] = int(offsets[-1]) if len(offsets) else self.ends[name]
        self._clear()


class ArrayFile:
    """A `.npy` file of one dimension that is written piece by piece, byte for byte what numpy.save would write."""

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        """Begin with no value."""
        self.dtype, self.length = np.dtype(dtype), 0
        self.file = path.open("wb")
        self._write_header()

    def _write_header(self) -> None:
        self.file.seek(0)
        descr = np.lib.format.dtype_to_descr(self.dtype)
        # NumPy leaves room for a length of 20 digits, so a later header takes the same place.
        np.lib.format.write_array_header_1_0(
            self.file, {"descr": descr, "fortran_order": False, "shape": (self.length,)}
        )

    def append(self, values: npt.NDArray[np.generic]) -> None:
        """Write values of the file's type, (N,)."""
        self.file.write(values.astype(self.dtype, copy=False).tobytes())
        self.length += len(values)

    def __enter__(self) -> "ArrayFile":
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._write_header()
        finally:
            self.file.close()
