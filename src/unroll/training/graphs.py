"""Training steps on a CUDA device: the corpus lies on it, and each step is one captured graph.

A step of a model this small is hundreds of kernels of a few microseconds, and Python takes longer to start them than
the device to run them. A graph starts them all at once. Its shapes are fixed, so batches are padded to few shapes.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from unroll.text.batches import Batch
from unroll.text.corpus import Corpus, Ints
from unroll.text.vocabulary import UNKNOWN_ID
from unroll.training.losses import BatchTotals
from unroll.training.state import TrainState

# Before the first capture: the optimizer makes its moments in the first step, and libraries allocate memory in the
# first ones. Captured, that would be repeated in every step.
EAGER_STEPS = 3


def supports(state: TrainState) -> bool:
    """Return whether the steps can be captured: those of one process on a CUDA device."""
    return bool(state.accelerator.device.type == "cuda" and state.accelerator.num_processes == 1)


class GraphedStep:
    """Takes a training step for a batch, from a graph of its shape, which is captured when it is first needed."""

    def __init__(self, state: TrainState, corpus: Corpus) -> None:
        """Copy the corpus to the device of the state, which has to be restored from its checkpoint before.

        Raises:
            torch.OutOfMemoryError: the corpus does not fit there.
        """
        self.state, self.corpus = state, corpus
        self.lengths, self.spans = np.diff(corpus.offsets), np.diff(corpus.span_offsets)  # of the sequences, (S,)
        self.resident = ResidentCorpus(corpus, state.accelerator.device)
        self.graphs: dict[tuple[int, ...], tuple[Callable[[], Tensor], Tensor]] = {}
        self.taken = 0  # steps

    def __call__(self, sequences: Ints) -> Tensor:
        """Take a step for the sequences of these numbers, and return the loss to report, on the device."""
        wanted = (len(sequences), int(self.lengths[sequences].max()), int(self.spans[sequences].sum()))
        shape = size, longest, spans = tuple(round_up(number) for number in wanted)
        numbers = torch.full((size,), -1)
        numbers[: len(sequences)] = torch.from_numpy(sequences)
        if shape not in self.graphs:
            inputs = numbers.to(self.resident.device)

            def update() -> Tensor:
                return self.state.update(*self.resident.make_batch(inputs, longest, spans))

            self.graphs[shape] = (self.capture(update) if self.taken >= EAGER_STEPS else update), inputs
        replay, inputs = self.graphs[shape]
        inputs.copy_(numbers, non_blocking=True)
        loss = replay().clone()
        self.state.advance()
        self.taken += 1
        if self.taken == EAGER_STEPS:
            self.graphs.clear()
            self.prepare()
        return loss

    def prepare(self) -> None:
        """Let the optimizer read the learning rate from the device, where a graph finds its present value."""
        for group in self.state.optimizer.param_groups:
            group["lr"], group["capturable"] = torch.tensor(float(group["lr"]), device=self.resident.device), True
        self.pool = torch.cuda.graph_pool_handle()

    def capture(self, update: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Return what runs the update as a graph.

        The graphs share their memory: one runs at a time, and of what it writes there only the loss is read later,
        which is copied before the next one begins.
        """
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            loss = update()

        def replay() -> Tensor:
            graph.replay()
            return loss

        return replay


class ResidentCorpus:
    """The arrays of a corpus on a device, and batches from them that need nothing from the host."""

    def __init__(self, corpus: Corpus, device: torch.device) -> None:
        """Copy the arrays: 4 bytes a token, 16 bytes a sequence and 16 + 4 K a span."""
        self.device = device
        arrays = corpus.tokens, corpus.offsets, corpus.span_offsets, corpus.starts, corpus.ends, corpus.targets
        copies = (torch.tensor(np.asarray(array), device=device) for array in arrays)
        self.tokens, self.offsets, self.span_offsets, self.starts, self.ends, self.targets = copies

    def make_batch(self, sequences: Tensor, longest: int, spans: int) -> tuple[Batch, BatchTotals]:
        """Gather B sequences and their spans, padded to so many tokens T and spans R, and the totals without padding.

        Padding changes no loss: a sequence with a negative number, (B,), is one unknown token, and a span beyond the
        last has no known target.
        """
        is_real, numbers = sequences >= 0, sequences.clamp(min=0)
        first = self.offsets[numbers]
        lengths = torch.where(is_real, self.offsets[numbers + 1] - first, 1)  # (B,)
        places = torch.arange(longest, device=self.device)
        is_token = is_real[:, None] & (places < lengths[:, None])  # (B, T)
        tokens = self.tokens[torch.where(is_token, first[:, None] + places, 0)].long()
        counts = torch.where(is_real, self.span_offsets[numbers + 1] - self.span_offsets[numbers], 0)
        ends = counts.cumsum(0)
        order = torch.arange(spans, device=self.device)  # (R,)
        owner = torch.searchsorted(ends, order, right=True).clamp(max=len(sequences) - 1)
        is_span = order < ends[-1]
        chosen = torch.where(is_span, self.span_offsets[numbers[owner]] + order - (ends - counts)[owner], 0)
        targets = self.targets[chosen].masked_fill(~is_span[:, None], torch.nan)  # (R, K)
        batch = Batch(
            tokens=tokens.masked_fill(~is_token, UNKNOWN_ID),
            lengths=lengths,
            sequence=owner,
            start=self.starts[chosen].masked_fill(~is_span, 0),
            end=self.ends[chosen].masked_fill(~is_span, 1),
            targets=targets,
            spans=chosen,
        )
        labelled, pairs = targets.isfinite().any(1).sum(), torch.where(is_real, lengths - 1, 0).sum()
        return batch, BatchTotals(labelled.clamp(min=1), pairs.clamp(min=1))


def round_up(number: int) -> int:
    """Return the next number in four steps per octave: 1 to 8, 10, 12, 14, 16, 20 and so on."""
    step = 1 << max(number.bit_length() - 3, 0)
    return -(-number // step) * step
