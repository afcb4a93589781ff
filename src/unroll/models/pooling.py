"""Span pooling: from the hidden states of a sequence to one vector for each span."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from unroll.core.settings import Pooling
from unroll.models.dropout import drop
from unroll.models.pooling_loops import pool_by_loops

FEWEST_TOKENS = 2048  # of a batch that is predicted by compiled loops: Numba takes 0.4 s to load


def pool_spans(
    hidden: Tensor, sequence: Tensor, start: Tensor, end: Tensor, pooling: Sequence[Pooling], dropout: float = 0.0
) -> Tensor:
    """Pool each span's hidden states, all spans at once.

    Args:
        hidden: hidden states, (B, T, H).
        sequence: which of the B sequences each span lies in, (R,).
        start: first token of each span, (R,).
        end: the token after the last one, (R,), larger than start.
        pooling: which of: the state at the first token, the one at the last, the mean and the maximum of all.
        dropout: the share of the pooled values that become zero, the others being scaled up.

    Returns:
        One block of H for each pooling, side by side, (R, P * H).
    """
    is_short = hidden[..., 0].numel() < FEWEST_TOKENS and not hidden.requires_grad
    if hidden.device.type != "cpu" or is_short:
        return pool_by_tensors(hidden, sequence, start, end, pooling, dropout)
    states = hidden.to(_at_least_fp32(hidden)).contiguous()
    return pool_by_loops(states, sequence, start, end, pooling, dropout).to(hidden.dtype)


def pool_by_tensors(
    hidden: Tensor, sequence: Tensor, start: Tensor, end: Tensor, pooling: Sequence[Pooling], dropout: float = 0.0
) -> Tensor:
    """Do the same in tensor operations, none of which waits for a CUDA device; equal maxima share their gradient."""
    length, flat = hidden.shape[1], hidden.flatten(0, 1)
    first, count = sequence * length + start, end - start  # rows of the flat states
    # few, such as whole texts: each one's own states cost less than a table for all spans
    is_few = len(start) <= 0.75 * len(hidden) * math.log2(length + 1)
    blocks = []
    for kind in pooling:
        if kind == "mean":
            blocks.append(_means(hidden, first + sequence, count))
        elif kind == "max":
            blocks.append(_max_of_few(hidden, sequence, start, end) if is_few else _max_of_many(hidden, first, count))
        else:
            blocks.append(flat.index_select(0, first if kind == "first" else first + count - 1))
    return drop(torch.cat(blocks, dim=1), dropout)


def _means(hidden: Tensor, before: Tensor, count: Tensor) -> Tensor:
    """Return the means, (R, H), from differences of two cumulative sums, which a long span costs no more.

    A sequence has one sum more than states; `before` is the row of the sum before each span.
    """
    sums = functional.pad(hidden.to(_at_least_fp32(hidden)), (0, 0, 1, 0)).cumsum(1).flatten(0, 1)  # (B * (T + 1), H)
    total = sums.index_select(0, before + count) - sums.index_select(0, before)
    return (total / count[:, None]).to(hidden.dtype)


def _max_of_few(hidden: Tensor, sequence: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Return the maxima, (R, H), from each span's own states."""
    places = torch.arange(hidden.shape[1], device=hidden.device)
    is_outside = (places < start[:, None]) | (places >= end[:, None])  # (R, T)
    return hidden.index_select(0, sequence).masked_fill(is_outside[:, :, None], -math.inf).amax(1)


def _max_of_many(hidden: Tensor, first: Tensor, count: Tensor) -> Tensor:
    """Return the maxima, (R, H), from a doubling table, as any span is the union of two windows of 2^k tokens.

    Row k holds the maximum over the 2^k tokens from each position on (Bender and Farach-Colton, 2000, "The LCA problem
    revisited").
    """
    batch, length, _ = hidden.shape
    rows = [hidden]
    for power in range(1, length.bit_length()):
        below, step = rows[-1], 2 ** (power - 1)
        rows.append(torch.cat([torch.maximum(below[:, :-step], below[:, step:]), below[:, -step:]], 1))
    table = torch.stack(rows).flatten(0, 2)  # (K * B * T, H); where a window would pass the end, it is never read
    level = torch.frexp(count.float()).exponent.long() - 1  # (R,), log2 of the length, rounded down
    left = first + level * (batch * length)
    return torch.maximum(table.index_select(0, left), table.index_select(0, left + count - 2**level))


def _at_least_fp32(values: Tensor) -> torch.dtype:
    return torch.promote_types(values.dtype, torch.float32)
