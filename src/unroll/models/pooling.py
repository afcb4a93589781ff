"""Span pooling: from the hidden states of a sequence to one vector for each span."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from unroll.core.settings import Pooling


def pool_spans(hidden: Tensor, sequence: Tensor, start: Tensor, end: Tensor, pooling: Sequence[Pooling]) -> Tensor:
    """Pool each span's hidden states, all spans at once.

    Args:
        hidden: hidden states, (B, T, H).
        sequence: which of the B sequences each span lies in, (R,).
        start: first token of each span, (R,).
        end: the token after the last one, (R,), larger than start.
        pooling: which of: the state at the first token, the one at the last, the mean and the maximum of all.

    Returns:
        One block of H for each pooling, side by side, (R, P * H).
    """
    # few, such as whole texts: each one's own states cost less than sums and maxima for all spans
    is_few = len(start) <= 0.75 * len(hidden) * math.log2(hidden.shape[1] + 1)
    pool: Any = _PoolFew if is_few else _PoolMany
    pooled: Tensor = pool.apply(hidden, sequence, start, end, tuple(pooling))
    return pooled


class _PoolFew(torch.autograd.Function):
    """Pools few spans, each from its own states; the gradients are written into one sum for all poolings."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, sequence: Tensor, start: Tensor, end: Tensor, pooling: tuple[Pooling, ...]
    ) -> Tensor:
        length, flat = hidden.shape[1], hidden.flatten(0, 1)
        places = torch.arange(length, device=hidden.device)
        is_inside = (places >= start[:, None]) & (places < end[:, None])  # (R, T)
        shares = is_inside.to(_at_least_fp32(hidden)) / (end - start)[:, None]  # of the mean, (R, T)
        # where each sequence is one span nothing has to be copied; a CUDA device would have to be waited for
        ctx.is_whole = hidden.device.type == "cpu" and torch.equal(sequence, torch.arange(len(hidden)))
        states = hidden if ctx.is_whole else hidden.index_select(0, sequence)  # (R, T, H)
        first = sequence * length + start  # rows of the flat states
        last, top = first + (end - start) - 1, first
        blocks = []
        for kind in pooling:
            if kind in ("first", "last"):
                blocks.append(flat.index_select(0, first if kind == "first" else last))
            elif kind == "mean":
                with torch.autocast(hidden.device.type, enabled=False):  # in bf16 the sums would be rounded
                    blocks.append((shares[:, None] @ states.to(shares.dtype))[:, 0].to(hidden.dtype))
            else:
                outside = hidden.new_zeros(is_inside.shape).masked_fill_(~is_inside, -math.inf)
                inside = states + outside[:, :, None]  # (R, T, H)
                blocks.append(inside.amax(1))
                if ctx.needs_input_grad[0]:
                    top = sequence[:, None] * length + _first_equal(inside, blocks[-1])  # (R, H)
        ctx.pooling, ctx.size = pooling, hidden.shape
        ctx.save_for_backward(shares, sequence, first, last, top)
        return torch.cat(blocks, dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        shares, sequence, first, last, top = ctx.saved_tensors
        blocks = dict(zip(ctx.pooling, torch.split(gradient, ctx.size[2], 1), strict=True))
        gradients = gradient.new_zeros(ctx.size)
        if "mean" in blocks:
            of_mean = (shares[:, :, None] * blocks["mean"][:, None]).to(gradient.dtype)  # (R, T, H)
            gradients = of_mean if ctx.is_whole else gradients.index_add_(0, sequence, of_mean)
        rows = gradients.flatten(0, 1)
        for kind, place in (("first", first), ("last", last)):
            if kind in blocks:
                rows.index_add_(0, place, blocks[kind])
        if "max" in blocks:
            rows.scatter_add_(0, top, blocks["max"])
        return gradients, None, None, None, None


def _first_equal(states: Tensor, top: Tensor) -> Tensor:
    """Return the first token at which states (R, T, H) equal `top` (R, H), (R, H); `max` takes twice as long for it."""
    length = states.shape[1]
    left = torch.arange(length, 0, -1, device=states.device, dtype=torch.float32)  # tokens from each one on, (T,)
    is_top = torch.eq(states, top[:, None], out=torch.empty(states.shape, device=states.device))
    return length - is_top.mul_(left[:, None]).amax(1).long().clamp_(min=1)


class _PoolMany(torch.autograd.Function):
    """Pools many spans from sums and maxima that they share, so that a long span costs no more than a short one.

    The mean is the difference of two cumulative sums. The maximum comes from a doubling table, as any span is the union
    of two windows of a power of two tokens: row k holds the maximum over the 2^k tokens from each position on (Bender
    and Farach-Colton, 2000, "The LCA problem revisited").

    The gradients are written by hand into one sum for all poolings; autograd's for `torch.maximum`, which divides it
    between equal values, takes four times as long on a CPU. Here the earlier of two equal values gets all of it.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, sequence: Tensor, start: Tensor, end: Tensor, pooling: tuple[Pooling, ...]
    ) -> Tensor:
        batch, length, size = hidden.shape
        first, flat = sequence * length + start, hidden.flatten(0, 1)
        last, table, left, right = first + (end - start) - 1, hidden[None], first, first
        pooled = hidden.new_empty(len(start), len(pooling), size)  # (R, P, H)
        for place, kind in enumerate(pooling):
            if kind in ("first", "last"):
                torch.index_select(flat, 0, first if kind == "first" else last, out=pooled[:, place])
            elif kind == "mean":
                sums = _cumulate(functional.pad(hidden, (0, 0, 1, 0)).to(_at_least_fp32(hidden))).flatten(0, 1)
                before = first + sequence  # rows of the sums, of which a sequence has one more
                total = sums.index_select(0, before + (end - start)).sub_(sums.index_select(0, before))
                pooled[:, place] = total.div_((end - start)[:, None])
            else:
                table = _maxima(hidden)
                level = torch.frexp((end - start).float()).exponent.long() - 1  # (R,), log2 of the length, rounded down
                left = first + level * (batch * length)  # rows of the two windows in the flat table
                right = left + (end - start) - 2**level
                rows = table.flatten(0, 2)  # (K * B * T, H)
                torch.maximum(rows.index_select(0, left), rows.index_select(0, right), out=pooled[:, place])
        ctx.pooling = pooling
        ctx.save_for_backward(table, sequence, start, end, left, right)
        return pooled.flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        table, sequence, start, end, left, right = ctx.saved_tensors
        gradients, (batch, length, size) = torch.zeros_like(table), table.shape[1:]
        rows, first = gradients.flatten(0, 2), sequence * length + start
        for kind, block in zip(ctx.pooling, torch.split(gradient, size, 1), strict=True):
            part = block.contiguous()  # rows of a slice are added up ten times as slowly
            if kind in ("first", "last"):
                rows.index_add_(0, first if kind == "first" else first + (end - start) - 1, part)
            elif kind == "mean":
                changes = gradient.new_zeros(batch, length + 1, size, dtype=_at_least_fp32(gradient))
                share, before = part.to(changes.dtype) / (end - start)[:, None], first + sequence
                ends, starts = before + (end - start), before
                changes.flatten(0, 1).index_add_(0, ends, share).index_add_(0, starts, share, alpha=-1)
                gradients[0] += _cumulate(changes, from_last=True)[:, 1:]  # so that padding gets 0 without rounding
            else:
                flat = table.flatten(0, 2)
                to_left = _at_least(flat.index_select(0, left), flat.index_select(0, right)).mul_(part)  # (R, H)
                rows.index_add_(0, left, to_left).index_add_(0, right, part - to_left)
        for level in range(len(table) - 1, 0, -1):
            step, windows, below = 2 ** (level - 1), length - 2**level + 1, table[level - 1]
            above = gradients[level, :, :windows]
            to_left = _at_least(below[:, :windows], below[:, step : step + windows]).mul_(above)
            gradients[level - 1, :, :windows] += to_left
            gradients[level - 1, :, step : step + windows] += above.sub_(to_left)
        return gradients[0], None, None, None, None


def _maxima(hidden: Tensor) -> Tensor:
    """Return the doubling table, (K, B, T, H); where a window would pass the end, it is never read."""
    batch, length, size = hidden.shape
    table = hidden.new_empty(length.bit_length(), batch, length, size)
    table[0] = hidden
    for power in range(1, len(table)):
        step, windows, below = 2 ** (power - 1), length - 2**power + 1, table[power - 1]
        torch.maximum(below[:, :windows], below[:, step : step + windows], out=table[power, :, :windows])
    return table


def _at_least_fp32(values: Tensor) -> torch.dtype:
    return torch.promote_types(values.dtype, torch.float32)


def _cumulate(values: Tensor, *, from_last: bool = False) -> Tensor:
    """Return the cumulative sums over the tokens, (B, T, H); in place on a CPU, where that is faster."""
    if values.device.type != "cpu":
        return values.flip(1).cumsum(1).flip(1) if from_last else values.cumsum(1)
    steps = values.unbind(1)[:: -1 if from_last else 1]
    for before, step in itertools.pairwise(steps):
        step.add_(before)
    return values


def _at_least(left: Tensor, right: Tensor) -> Tensor:
    """Return 1 where left >= right and else 0, as numbers: products with truth values take three times as long."""
    return torch.ge(left, right, out=torch.empty(left.shape, dtype=left.dtype, device=left.device))
