"""Batches: sequences of similar lengths with the spans in them, padded to one length, as tensors."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unroll.text.corpus import Corpus, Ints
from unroll.text.vocabulary import UNKNOWN_ID


@dataclass(frozen=True)
class Batch:
    """B sequences, padded on the right to the length T of the longest, and the R spans in them."""

    tokens: Tensor  # (B, T) int64; the padding is the unknown token
    lengths: Tensor | None  # of the sequences, (B,); None if all have the length T, and nothing is padded
    sequence: Tensor  # which of the B sequences each span lies in, (R,)
    start: Tensor  # first token of each span, (R,)
    end: Tensor  # the token after the last one, (R,)
    targets: Tensor  # truth of each span, NaN where it is not known, (R, K)
    spans: Tensor  # number of each span in the corpus, (R,)

    def to(self, device: torch.device) -> "Batch":
        """Return the same batch on another device."""
        moved: dict[str, Any] = {
            name: None if part is None else part.to(device, non_blocking=True) for name, part in vars(self).items()
        }
        return Batch(**moved)


def iterate_batches(
    corpus: Corpus, sequences: Ints, batch_size: int, batch_tokens: int, generator: np.random.Generator | None = None
) -> Iterator[Batch]:
    """Yield batches of the given sequences, each once; see plan_batches."""
    for chunk in plan_batches(np.diff(corpus.offsets)[sequences], batch_size, batch_tokens, generator):
        yield make_batch(corpus, sequences[chunk])


def plan_batches(
    lengths: Ints, batch_size: int, batch_tokens: int, generator: np.random.Generator | None = None
) -> list[Ints]:
    """Group sequences of the given lengths, (S,), into batches of similar lengths, as positions in `lengths`.

    Lengths are rounded up to 16 steps an octave, and sequences sorted by them: up to 31 tokens a batch is of one length
    but where two lengths meet. The more sequences, the less is padding.

    Args:
        lengths: of the sequences.
        batch_size: the most sequences of a batch.
        batch_tokens: the most tokens of a batch, by the rounded length of its longest sequence; one that is longer by
            itself is a batch.
        generator: shuffles which sequences share a batch, and the batches; without one they go from short to long. The
            number of batches does not depend on it.
    """
    step = 1 << np.maximum(np.log2(np.maximum(lengths, 1)).astype(np.int64) - 4, 0)
    rounded = -(-lengths // step) * step
    order = np.arange(len(lengths)) if generator is None else generator.permutation(len(lengths))
    order = order[np.argsort(rounded[order], kind="stable")]
    starts, first = [0], 0
    for place, length in enumerate(rounded[order].tolist()):
        if place > first and (place - first == batch_size or (place - first + 1) * length > batch_tokens):
            starts.append(first := place)
    chunks = np.split(order, starts[1:])
    return chunks if generator is None else [chunks[number] for number in generator.permutation(len(chunks))]


def make_batch(corpus: Corpus, sequences: Ints) -> Batch:
    """Gather B sequences and the R spans in them."""
    first, lengths = corpus.offsets[sequences], corpus.offsets[sequences + 1] - corpus.offsets[sequences]
    longest = int(lengths.max())
    places = np.arange(longest)
    is_token = places < lengths[:, None]  # (B, T)
    tokens = corpus.tokens[np.where(is_token, first[:, None] + places, 0)].astype(np.int64)
    tokens[~is_token] = UNKNOWN_ID
    spans = corpus.spans_of(sequences)
    counts = corpus.span_offsets[sequences + 1] - corpus.span_offsets[sequences]
    return Batch(
        tokens=torch.from_numpy(tokens),
        lengths=None if is_token.all() else torch.from_numpy(lengths.astype(np.int64)),
        sequence=torch.from_numpy(np.repeat(np.arange(len(sequences)), counts)),  # (R,)
        start=torch.from_numpy(corpus.starts[spans]),
        end=torch.from_numpy(corpus.ends[spans]),
        targets=torch.from_numpy(corpus.targets[spans]),
        spans=torch.from_numpy(spans),
    )
