"""Span pooling as loops over each span's own states, for a CPU.

A tensor operation reads and writes the values of all spans, and pooling takes a dozen; here a span's values stay in the
cache, which takes a quarter to a half of the time.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unroll.core.settings import Pooling
from unroll.models.compiled import Array, compiled
from unroll.models.dropout import dropped_bytes, random_bytes

FIRST, LAST, MEAN, MAX = range(4)
KINDS = {"first": FIRST, "last": LAST, "mean": MEAN, "max": MAX}


def pool_by_loops(
    hidden: Tensor, sequence: Tensor, start: Tensor, end: Tensor, pooling: Sequence[Pooling], dropout: float
) -> Tensor:
    """Do what `pool_spans` does, for hidden states in fp32 or fp64, side by side in memory."""
    kinds = torch.tensor([KINDS[kind] for kind in pooling])
    first = sequence * hidden.shape[1] + start
    spans = torch.stack([first, first + (end - start)], 1)  # rows of all states, (R, 2)
    pooled: Tensor = _PoolSpans.apply(hidden, spans, kinds, dropout)  # type: ignore[no-untyped-call]
    return pooled


class _PoolSpans(torch.autograd.Function):
    """Pools spans and applies dropout; of two equal maxima the earlier gets the gradient."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, spans: Tensor, kinds: Tensor, dropout: float) -> Tensor:
        pooled = hidden.new_empty(len(spans), len(kinds), hidden.shape[2])
        noise = random_bytes(pooled.shape) if dropout else pooled.new_empty(0, 0, 0, dtype=torch.uint8)
        # the token of each maximum, counted from the first one of the span
        top = pooled.new_empty(len(spans) if MAX in kinds else 0, hidden.shape[2], dtype=torch.int32)
        ctx.dropped, ctx.size = dropped_bytes(dropout), hidden.shape
        ctx.save_for_backward(spans, kinds, noise, top)
        _pool(ctx.dropped, *_arrays(spans, kinds, noise, top, hidden.flatten(0, 1), pooled))
        return pooled.flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        spans, kinds, noise, top = ctx.saved_tensors
        gradients = gradient.new_zeros(ctx.size)
        blocks = gradient.contiguous().view(len(spans), len(kinds), ctx.size[2])
        _spread(ctx.dropped, *_arrays(spans, kinds, noise, top, blocks, gradients.flatten(0, 1)))
        return gradients, None, None, None


def _arrays(*tensors: Tensor) -> list[Array]:
    return [tensor.detach().numpy() for tensor in tensors]


@compiled
def _pool(dropped: int, spans: Array, kinds: Array, noise: Array, top: Array, states: Array, pooled: Array) -> None:
    """Fill `pooled`, (R, P, H), and `top`, (R, H), from states (B * T, H)."""
    size, zero = states.shape[1], states.dtype.type(0)
    for span in range(len(spans)):
        first, end = spans[span]
        for place in range(len(kinds)):
            kind, block = kinds[place], pooled[span, place]
            begin = end - 1 if kind == LAST else first
            stop = first + 1 if kind == FIRST else end
            for unit in range(size):
                block[unit] = states[begin, unit]
            if kind == MAX:
                tokens = top[span]
                for unit in range(size):
                    tokens[unit] = 0
                for row in range(begin + 1, stop):
                    for unit in range(size):
                        value = states[row, unit]
                        is_larger = value > block[unit] or value != value  # one that is not a number stays
                        block[unit] = value if is_larger else block[unit]
                        tokens[unit] = row - first if is_larger else tokens[unit]
            else:
                for row in range(begin + 1, stop):
                    for unit in range(size):
                        block[unit] += states[row, unit]
            factor = states.dtype.type(256 / (256 - dropped) / (1 if kind == MAX else stop - begin))
            if dropped:
                for unit in range(size):
                    block[unit] = block[unit] * factor if noise[span, place, unit] >= dropped else zero
            elif factor != 1:
                for unit in range(size):
                    block[unit] *= factor


@compiled
def _spread(dropped: int, spans: Array, kinds: Array, noise: Array, top: Array, blocks: Array, rows: Array) -> None:
    """Add the gradients of the pooled values, (R, P, H), to those of the states, (B * T, H)."""
    size, zero = rows.shape[1], rows.dtype.type(0)
    block = np.empty(size, rows.dtype)
    for span in range(len(spans)):
        first, end = spans[span]
        for place in range(len(kinds)):
            kind = kinds[place]
            begin = end - 1 if kind == LAST else first
            stop = first + 1 if kind == FIRST else end
            factor = rows.dtype.type(256 / (256 - dropped) / (1 if kind == MAX else stop - begin))
            for unit in range(size):
                block[unit] = blocks[span, place, unit] * factor
            if dropped:
                for unit in range(size):
                    block[unit] = block[unit] if noise[span, place, unit] >= dropped else zero
            if kind == MAX:
                for unit in range(size):
                    rows[first + top[span, unit], unit] += block[unit]
            else:
                for row in range(begin, stop):
                    for unit in range(size):
                        rows[row, unit] += block[unit]
