"""RNN and GRU layers on a CPU, both directions in one product a step, their gradients written out.

PyTorch has no fused kernel for them there: each step of each direction records some ten operations and, on the way
back, adds a small product to the gradients of the weights, which here are one product over all steps. Long texts gain
most: with few sequences in a batch the small products take longest. D is the number of directions; each reads its
sequences from the first step on.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unroll.models.compiled import Array, compiled

MOST_SEQUENCES = 32  # larger batches take as long in PyTorch


def supports(mode: str, inputs: Tensor) -> bool:
    """Return whether `run_steps` is for these inputs, (B, T, E); where it is not faster than PyTorch it is as fast."""
    return mode in MODES and inputs.device.type == "cpu" and len(inputs) <= MOST_SEQUENCES


def run_steps(mode: str, inputs: Sequence[Tensor], weights: Sequence[Sequence[Tensor]]) -> Sequence[Tensor]:
    """Return the hidden states of each direction of a layer, (B, T, H).

    Args:
        mode: "RNN_TANH" or "GRU", as torch.nn.RNNBase has it.
        inputs: of each direction, (B, T, E).
        weights: of each direction: w_ih, (G * H, E), w_hh, (G * H, H), b_ih and b_hh, (G * H,), as torch.nn has them.
    """
    steps = torch.stack([each.transpose(0, 1) for each in inputs]).to(weights[0][0].dtype)  # (D, T, B, E)
    with torch.autocast("cpu", enabled=False):
        hidden: Tensor = MODES[mode].apply(steps, *(torch.stack(part) for part in zip(*weights, strict=True)))
    return hidden.transpose(1, 2).unbind()


class _Rnn(torch.autograd.Function):
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
        size, flat = w_hh.shape[2], x.flatten(1, 2)  # (D, T * B, E)
        states = torch.baddbmm((b_ih + b_hh)[:, None], flat, w_ih.mT).view(*x.shape[:3], size)
        h, recurrent = states.unbind(1), w_hh.mT.contiguous()
        for t, state in enumerate(h):
            if t:
                state.baddbmm_(h[t - 1], recurrent)
            state.tanh_()
        ctx.save_for_backward(x, w_ih, w_hh, states)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, states = ctx.saved_tensors
        inner = 1 - states * states  # the derivative of tanh, and then the gradient of its argument
        above, steps = gradient.unbind(1), inner.unbind(1)
        d_h = above[-1]
        for t in range(len(steps) - 1, -1, -1):
            steps[t].mul_(d_h)
            if t:
                d_h = torch.baddbmm(above[t - 1], steps[t], w_hh)
        flat = inner.flatten(1, 2)  # (D, T * B, H)
        d_w_hh = inner[:, 1:].flatten(1, 2).mT @ states[:, :-1].flatten(1, 2)
        d_b = flat.sum(1)
        d_x = (flat @ w_ih).view_as(x) if ctx.needs_input_grad[0] else None  # one-hot inputs need none
        return d_x, flat.mT @ x.flatten(1, 2), d_w_hh, d_b, d_b


class _Gru(torch.autograd.Function):
    """A gated recurrent unit; W is w_ih and U is w_hh, each in the order r, z, n, and likewise their biases b and c.

    r, z = sigmoid(W x_t + b + U h_(t-1) + c), q = U_n h_(t-1) + c_n, n = tanh(W_n x_t + b_n + r q),
    h_t = n + z (h_(t-1) - n).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
        size, flat = w_hh.shape[2], x.flatten(1, 2)  # (D, T * B, E)
        both = torch.cat([b_ih[:, : 2 * size] + b_hh[:, : 2 * size], b_ih[:, 2 * size :]], 1)[:, None]
        parts = x.new_empty(*x.shape[:3], 4 * size)  # q, r, z, n: what the state goes to stands in one block, the first
        parts[..., :size] = b_hh[:, None, None, 2 * size :]
        parts[..., size:] = torch.baddbmm(both, flat, w_ih.mT).view(*x.shape[:3], 3 * size)
        q, r, z, n = (part.unbind(1) for part in parts.chunk(4, -1))
        of_state, gates = parts[..., : 3 * size].unbind(1), parts[..., size : 3 * size].unbind(1)
        recurrent = w_hh.roll(size, 1).mT.contiguous()  # of q, r, z
        states = x.new_zeros(x.shape[0], x.shape[1] + 1, x.shape[2], size)  # the first is zero
        h = states.unbind(1)
        for t in range(len(n)):
            if t:
                of_state[t].baddbmm_(h[t], recurrent)
            gates[t].sigmoid_()
            n[t].addcmul_(r[t], q[t]).tanh_()
            torch.lerp(n[t], h[t], z[t], out=h[t + 1])
        ctx.save_for_backward(x, w_ih, w_hh, parts, states)
        return states[:, 1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, parts, states = ctx.saved_tensors
        size, recurrent = w_hh.shape[2], w_hh.roll(w_hh.shape[2], 1)
        blocks = torch.empty_like(parts)  # gradients of q and of the arguments of r, z and n, (D, T, B, 4 * H)
        above, of_state = gradient.contiguous(), blocks[..., : 3 * size].unbind(1)
        d_h = above[:, -1].clone()
        arrays = [each.numpy() for each in (parts, states, above, d_h, blocks)]
        for t in range(len(of_state) - 1, -1, -1):
            _step_back(t, *arrays)
            if t:
                d_h.baddbmm_(of_state[t], recurrent)
        flat = blocks.flatten(1, 2)  # (D, T * B, 4 * H)
        to_state, to_input = flat[..., : 3 * size], flat[..., size:]
        d_w_hh = (to_state.mT @ states[:, :-1].flatten(1, 2)).roll(-size, 1)
        d_x = (to_input @ w_ih).view_as(x) if ctx.needs_input_grad[0] else None
        d_w_ih = to_input.mT @ x.flatten(1, 2)
        return d_x, d_w_ih, d_w_hh, to_input.sum(1), to_state.sum(1).roll(-size, 1)


@compiled
def _step_back(t: int, parts: Array, states: Array, above: Array, d_h: Array, blocks: Array) -> None:
    """Fill step t of `blocks`, (D, T, B, 4 * H), from the gradient of its state, d_h, (D, B, H).

    Then d_h is that of the state before it, but for what comes through the recurrent product.
    """
    one, size = parts.dtype.type(1), d_h.shape[2]
    for direction in range(d_h.shape[0]):
        for row in range(d_h.shape[1]):
            values, before, gradient = parts[direction, t, row], states[direction, t, row], d_h[direction, row]
            block, earlier = blocks[direction, t, row], above[direction, t - 1, row]  # nothing reads it after step 0
            for unit in range(size):
                q, r, z, n = values[unit], values[size + unit], values[2 * size + unit], values[3 * size + unit]
                d_n = (one - z) * (one - n * n) * gradient[unit]
                block[unit] = r * d_n
                block[size + unit] = q * r * (one - r) * d_n
                block[2 * size + unit] = (before[unit] - n) * z * (one - z) * gradient[unit]
                block[3 * size + unit] = d_n
                gradient[unit] = gradient[unit] * z + earlier[unit]


MODES: dict[str, Any] = {"RNN_TANH": _Rnn, "GRU": _Gru}
