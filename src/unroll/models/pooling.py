"""Span pooling: from the hidden states of a sequence to one vector for each span."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from unroll.core.settings import Pooling
from unroll.models.dropout import drop
from unroll.models.pooling_loops import pool_by_loops


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
    if hidden.device.type != "cpu" or len(start) == 1:  # Numba takes longer to load than one span to pool
        return pool_by_tensors(hidden, sequence, start, end, pooling, dropout)
    states = hidden.to(_at_least_fp32(hidden)).contiguous()
    return pool_by_loops(states, sequence, start, end, pooling, dropout).to(hidden.dtype)


def pool_by_tensors(
    hidden: Tensor, sequence: Tensor, start: Tensor, end: Tensor, pooling: Sequence[Pooling], dropout: float = 0.0
) -> Tensor:
    """Do the same in tensor operations, none of which waits for a CUDA device."""
    # few, such as whole texts: each one's own states cost less than a table for all spans
    is_few = len(start) <= 0.75 * len(hidden) * math.log2(hidden.shape[1] + 1)
    functions = {"first": _first, "last": _last, "mean": _mean, "max": _max_of_few if is_few else _max_of_many}
    return drop(torch.cat([functions[kind](hidden, sequence, start, end) for kind in pooling], dim=1), dropout)


def _first(hidden: Tensor, sequence: Tensor, start: Tensor, end: Tensor) -> Tensor:
    return hidden[sequence, start]


def _last(hidden: Tensor, sequence: Tensor, start: Tensor, end: Tensor) -> Tensor:
    return hidden[sequence, end - 1]


def _mean(hidden: Tensor, sequence: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Return the means, (R, H), from differences of two cumulative sums, which a long span costs no more."""
    sums = functional.pad(hidden.to(_at_least_fp32(hidden)), (0, 0, 1, 0)).cumsum(1)  # (B, T + 1, H)
    return ((sums[sequence, end] - sums[sequence, start]) / (end - start)[:, None]).to(hidden.dtype)


def _max_of_few(hidden: Tensor, sequence: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Return the maxima, (R, H), from each span's own states."""
    places = torch.arange(hidden.shape[1], device=hidden.device)
    is_outside = (places < start[:, None]) | (places >= end[:, None])  # (R, T)
    return hidden[sequence].masked_fill(is_outside[:, :, None], -math.inf).amax(1)


def _max_of_many(hidden: Tensor, sequence: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Return the maxima, (R, H), from a doubling table, as any span is the union of two windows of 2^k tokens.

    Row k holds the maximum over the 2^k tokens from each position on (Bender and Farach-Colton, 2000, "The LCA problem
    revisited").
    """
    length, rows = hidden.shape[1], [hidden]
    for power in range(1, length.bit_length()):
        below, step = rows[-1], 2 ** (power - 1)
        rows.append(torch.cat([torch.maximum(below[:, :-step], below[:, step:]), below[:, -step:]], 1))
    table = torch.stack(rows)  # (K, B, T, H); where a window would pass the end, it is never read
    level = torch.frexp((end - start).float()).exponent.long() - 1  # (R,), log2 of the length, rounded down
    return torch.maximum(table[level, sequence, start], table[level, sequence, end - 2**level])


def _at_least_fp32(values: Tensor) -> torch.dtype:
    return torch.promote_types(values.dtype, torch.float32)
