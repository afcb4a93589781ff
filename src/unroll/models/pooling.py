"""Span pooling: from the hidden states of a sequence to one vector for each span."""

import math
from collections.abc import Callable, Sequence
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
    take: dict[str, Callable[[], Tensor]] = {
        "first": lambda: _gather(hidden, sequence, start),
        "last": lambda: _gather(hidden, sequence, end - 1),
        "mean": lambda: _mean(hidden, sequence, start, end),
        "max": lambda: _SpanMax.apply(hidden, sequence, start, end),  # type: ignore[no-untyped-call]
    }
    size, length, _ = hidden.shape
    # few, such as whole texts: each one's own states cost less than sums and maxima for all spans
    if len(start) <= size * math.log2(length + 1) / 2:
        places = torch.arange(length, device=hidden.device)
        is_inside = (places >= start[:, None]) & (places < end[:, None])  # (R, T)
        take["mean"] = lambda: _mean_of_few(hidden, sequence, is_inside)
        take["max"] = lambda: _max_of_few(hidden, sequence, is_inside)
    parts = [take[kind]() for kind in pooling]
    for part in parts:
        if part.requires_grad:  # a slice of the gradient of all; its rows are added up in a tenth of the time if copied
            part.register_hook(Tensor.contiguous)  # type: ignore[no-untyped-call]
    return torch.cat(parts, dim=1)


def _gather(states: Tensor, sequence: Tensor, token: Tensor) -> Tensor:
    """Return states[sequence, token], (R, H), for states (B, T, H); its gradient is a plain sum over rows."""
    return states.flatten(0, 1).index_select(0, sequence * states.shape[1] + token)


def _mean(hidden: Tensor, sequence: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Take the mean from the difference of two cumulative sums, so that a long span costs no more than a short one."""
    at_least_fp32 = torch.promote_types(hidden.dtype, torch.float32)
    sums = functional.pad(hidden.cumsum(1, dtype=at_least_fp32), (0, 0, 1, 0))  # (B, T + 1, H)
    total = _gather(sums, sequence, end) - _gather(sums, sequence, start)  # (R, H)
    return (total / (end - start)[:, None]).to(hidden.dtype)


def _mean_of_few(hidden: Tensor, sequence: Tensor, is_inside: Tensor) -> Tensor:
    inside = is_inside.to(torch.promote_types(hidden.dtype, torch.float32))  # (R, T)
    states = hidden.index_select(0, sequence).to(inside.dtype)  # (R, T, H)
    with torch.autocast(hidden.device.type, enabled=False):  # in bf16 the sums would be rounded
        return ((inside[:, None] @ states)[:, 0] / inside.sum(1, keepdim=True)).to(hidden.dtype)


def _max_of_few(hidden: Tensor, sequence: Tensor, is_inside: Tensor) -> Tensor:
    """Take the maximum by its place, the first of several, which then gets all of the gradient (argmax is slower)."""
    states = hidden.detach().index_select(0, sequence).masked_fill_(~is_inside[:, :, None], -math.inf)  # (R, T, H)
    return hidden.flatten(0, 1).gather(0, sequence[:, None] * hidden.shape[1] + states.max(1).indices)


class _SpanMax(torch.autograd.Function):
    """The maximum from a doubling table: any span is the union of two windows of a power of two tokens.

    Row k of the table holds the maximum over the 2^k tokens from each position on (Bender and Farach-Colton, 2000,
    "The LCA problem revisited"). The gradient is written by hand, since autograd's for `torch.maximum`, which divides
    it between equal values, takes four times as long on a CPU; here the earlier of two equal values gets all of it.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, sequence: Tensor, start: Tensor, end: Tensor) -> Tensor:
        batch, length, size = hidden.shape
        table = hidden.new_empty(length.bit_length(), batch, length, size)  # (K, B, T, H)
        table[0] = hidden
        for power in range(1, len(table)):  # where a window would pass the end, the table is never read
            step, windows, below = 2 ** (power - 1), length - 2**power + 1, table[power - 1]
            torch.maximum(below[:, :windows], below[:, step : step + windows], out=table[power, :, :windows])
        level = torch.frexp((end - start).float()).exponent.long() - 1  # (R,), log2 of the length, rounded down
        row = (level * batch + sequence) * length
        left, right = row + start, row + end - 2**level  # (R,), rows of the two windows in the flat table
        flat = table.flatten(0, 2)  # (K * B * T, H)
        ctx.save_for_backward(table, left, right)
        return torch.maximum(flat.index_select(0, left), flat.index_select(0, right))  # (R, H)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        table, left, right = ctx.saved_tensors
        flat, gradients = table.flatten(0, 2), torch.zeros_like(table)
        to_left = _at_least(flat.index_select(0, left), flat.index_select(0, right)).mul_(gradient)  # (R, H)
        gradients.flatten(0, 2).index_add_(0, left, to_left).index_add_(0, right, gradient - to_left)
        for level in range(len(table) - 1, 0, -1):
            step, windows, below = 2 ** (level - 1), table.shape[2] - 2**level + 1, table[level - 1]
            above = gradients[level, :, :windows]
            to_left = _at_least(below[:, :windows], below[:, step : step + windows]).mul_(above)
            gradients[level - 1, :, :windows] += to_left
            gradients[level - 1, :, step : step + windows] += above.sub_(to_left)
        return gradients[0], None, None, None


def _at_least(left: Tensor, right: Tensor) -> Tensor:
    """Return 1 where left >= right and else 0, as numbers: products with truth values take three times as long."""
    return torch.ge(left, right, out=torch.empty(left.shape, dtype=left.dtype, device=left.device))
