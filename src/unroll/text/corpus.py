"""Ragged arrays: sequences of tokens, the spans in them and their labels.

Nothing here is padded: sequences lie end to end in one array, and a batch takes those of similar lengths from it.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unroll.core.errors import UnrollError
from unroll.text.vocabulary import TokenIds

TEST_FOLD = -1
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Corpus:
    """S sequences with N tokens in all, and R spans in them, the spans of a sequence next to each other."""

    tokens: TokenIds  # the sequences' tokens end to end, (N,) int32
    offsets: Ints  # where each sequence begins in `tokens`, and N at the end, (S + 1,)
    folds: Ints  # fold of each sequence, -1 in the test part, (S,)
    span_offsets: Ints  # where each sequence's spans begin, and R at the end, (S + 1,)
    starts: Ints  # first token of each span, counted from the beginning of its sequence, (R,)
    ends: Ints  # the token after the last one of each span, counted likewise, (R,)
    # truth of each span, (R, K) float32: number of its class, 0 or 1, or numbers; NaN where it is not known
    targets: npt.NDArray[np.float32]
    row_ids: Ints  # row of the task that each span is, (R,)

    def __post_init__(self) -> None:
        """Raise a ValueError where the arrays do not fit each other."""
        per_span = {len(self.starts), len(self.ends), len(self.targets), len(self.row_ids), int(self.span_offsets[-1])}
        per_sequence = {len(self.folds), len(self.offsets) - 1, len(self.span_offsets) - 1}
        if len(per_span) > 1 or len(per_sequence) > 1 or self.offsets[-1] != len(self.tokens):
            raise ValueError("the arrays of the corpus do not fit each other")

    def __len__(self) -> int:
        """Return S."""
        return len(self.folds)

    def save(self, folder: Path) -> None:
        """Write each array as `<name>.npy`, which can be memory-mapped."""
        folder.mkdir(parents=True, exist_ok=True)
        for item in fields(self):
            np.save(folder / f"{item.name}.npy", getattr(self, item.name))

    def spans_of(self, sequences: Ints) -> Ints:
        """Return the numbers of the spans in the given sequences, in the order of the sequences."""
        return _ranges(self.span_offsets[sequences], np.diff(self.span_offsets)[sequences])

    def tokens_of(self, sequences: Ints) -> TokenIds:
        """Return the tokens of the given sequences end to end."""
        return self.tokens[_ranges(self.offsets[sequences], np.diff(self.offsets)[sequences])]


def load_corpus(folder: Path) -> Corpus:
    """Open the arrays that Corpus.save wrote, memory-mapped and read-only.

    Raises:
        UnrollError: an array is missing or damaged, or the arrays do not fit each other.
    """
    path, arrays = folder, {}
    try:
        for item in fields(Corpus):
            path = folder / f"{item.name}.npy"
            arrays[item.name] = np.load(path, mmap_mode="r", allow_pickle=False)
        return Corpus(**arrays)
    except (OSError, ValueError, EOFError) as error:
        raise UnrollError(f"{path}: damaged ({error}); run the tokenize stage again") from None


def make_offsets(counts: Ints) -> Ints:
    """Return where each of consecutive runs of so many items begins, and where the last one ends: (S,) to (S + 1,)."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _ranges(first: Ints, counts: Ints) -> Ints:
    """Return first[0], first[0] + 1, … (counts[0] numbers), first[1], … end to end."""
    begins = np.cumsum(counts) - counts
    numbers: Ints = np.arange(counts.sum()) + np.repeat(first - begins, counts)
    return numbers
