"""Batches: sequences of one length with the spans in them, as tensors."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from unroll.text.corpus import Corpus, Ints


@dataclass(frozen=True)
class Batch:
    """B sequences of one length T and the R spans in them.

    Attributes:
        tokens: (B, T) int64.
        sequence: which of the B sequences each span lies in, (R,).
        start: first token of each span, (R,).
        end: the token after the last one, (R,).
        targets: truth of each span, NaN where it is not known, (R, K).
        spans: number of each span in the corpus, (R,).
    """

    tokens: Tensor
    sequence: Tensor
    start: Tensor
    end: Tensor
    targets: Tensor
    spans: Tensor

    def with_tokens(self, tokens: Tensor) -> "Batch":
        """Return the same spans over other tokens, (B, T)."""
        return replace(self, tokens=tokens)

    def part(self, first: int, last: int) -> "Batch":
        """Return the sequences from first up to, but not including, last, and the spans in them."""
        inside = (self.sequence >= first) & (self.sequence < last)  # (R,)
        spans = {name: getattr(self, name)[inside] for name in ("start", "end", "targets", "spans")}
        return Batch(tokens=self.tokens[first:last], sequence=self.sequence[inside] - first, **spans)

    def to(self, device: torch.device) -> "Batch":
        """Return the same batch on another device."""
        return Batch(**{item.name: getattr(self, item.name).to(device, non_blocking=True) for item in fields(self)})


def iterate_batches(
    corpus: Corpus, sequences: Ints, batch_size: int, generator: np.random.Generator | None = None
) -> Iterator[Batch]:
    """Yield batches of at most `batch_size` of the given sequences, each once, all sequences of a batch of one length.

    A generator shuffles which sequences share a batch, and the batches; without one they go from short to long.
    """
    for chunk in plan_batches(np.diff(corpus.offsets)[sequences], batch_size, generator):
        yield make_batch(corpus, sequences[chunk])


def plan_batches(lengths: Ints, batch_size: int, generator: np.random.Generator | None = None) -> list[Ints]:
    """Group sequences of the given lengths, (S,), into batches of one length, as positions in `lengths`."""
    order = np.arange(len(lengths)) if generator is None else generator.permutation(len(lengths))
    order = order[np.argsort(lengths[order], kind="stable")]
    borders = np.flatnonzero(np.diff(lengths[order])) + 1
    chunks = [
        run[first : first + batch_size] for run in np.split(order, borders) for first in range(0, len(run), batch_size)
    ]
    return chunks if generator is None else [chunks[number] for number in generator.permutation(len(chunks))]


def make_batch(corpus: Corpus, sequences: Ints) -> Batch:
    """Gather B sequences of one length T and the R spans in them."""
    length = int(corpus.offsets[sequences[0] + 1] - corpus.offsets[sequences[0]])
    spans = corpus.spans_of(sequences)
    counts = corpus.span_offsets[sequences + 1] - corpus.span_offsets[sequences]
    tokens = corpus.tokens[corpus.offsets[sequences][:, None] + np.arange(length)]  # (B, T)
    return Batch(
        tokens=torch.from_numpy(tokens.astype(np.int64)),
        sequence=torch.from_numpy(np.repeat(np.arange(len(sequences)), counts)),  # (R,)
        start=torch.from_numpy(corpus.starts[spans]),
        end=torch.from_numpy(corpus.ends[spans]),
        targets=torch.from_numpy(corpus.targets[spans]),
        spans=torch.from_numpy(spans),
    )
