"""RNN, LSTM and GRU written out as their equations, one step at a time.

The equations, the order of the gates and the names of the weights are those of torch.nn.RNN, LSTM and GRU, so these
functions run with the weights of a trained layer, and return every gate as well. Train with torch.nn, which is fast;
explain with this.

Letters in the shapes: B sequences, T steps, E input size, H hidden size. sigma is the logistic function, * the
elementwise product, @ the matrix product.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

State = tuple[Tensor, ...]
Gates = dict[str, Tensor]


@dataclass(frozen=True)
class Weights:
    """One direction of one layer, the blocks of its G gates (1 for RNN, 4 for LSTM, 3 for GRU) stacked."""

    w_ih: Tensor  # from the input, (G * H, E)
    w_hh: Tensor  # from the previous state, (G * H, H)
    b_ih: Tensor  # bias of the input term, (G * H,)
    b_hh: Tensor  # bias of the state term, (G * H,)


def rnn_step(x: Tensor, state: State, weights: Weights) -> tuple[State, Gates]:
    """Take one step of an Elman RNN: h' = tanh(W_ih x + b_ih + W_hh h + b_hh).

    Args:
        x: input, (B, E).
        state: (h,), (B, H).
        weights: with one block.

    Returns:
        The next state (h',), and no gates: an RNN has none.
    """
    (h,) = state
    h = torch.tanh(x @ weights.w_ih.T + weights.b_ih + h @ weights.w_hh.T + weights.b_hh)  # (B, H)
    return (h,), {}


def lstm_step(x: Tensor, state: State, weights: Weights) -> tuple[State, Gates]:
    """Take one step of an LSTM (Hochreiter and Schmidhuber, 1997; Gers et al., 2000, for the forget gate).

        i = sigma(W_ii x + b_ii + W_hi h + b_hi)    the input gate
        f = sigma(W_if x + b_if + W_hf h + b_hf)    the forget gate
        g = tanh (W_ig x + b_ig + W_hg h + b_hg)    the candidate
        o = sigma(W_io x + b_io + W_ho h + b_ho)    the output gate
        c' = f * c + i * g
        h' = o * tanh(c')

    Args:
        x: input, (B, E).
        state: (h, c), each (B, H).
        weights: with the four blocks i, f, g, o.

    Returns:
        The next state (h', c'), and the gates, each (B, H).
    """
    h, c = state
    blocks = x @ weights.w_ih.T + weights.b_ih + h @ weights.w_hh.T + weights.b_hh  # (B, 4 * H)
    i, f, g, o = blocks.chunk(4, dim=1)  # (B, H) each
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    c = f * c + i * g  # (B, H)
    h = o * torch.tanh(c)  # (B, H)
    return (h, c), {"input": i, "forget": f, "candidate": g, "output": o, "cell": c}


def gru_step(x: Tensor, state: State, weights: Weights) -> tuple[State, Gates]:
    """Take one step of a GRU (Cho et al., 2014, with the reset gate after the product, as cuDNN has it).

        r = sigma(W_ir x + b_ir + W_hr h + b_hr)          the reset gate
        z = sigma(W_iz x + b_iz + W_hz h + b_hz)          the update gate
        n = tanh (W_in x + b_in + r * (W_hn h + b_hn))    the candidate
        h' = (1 - z) * n + z * h

    Args:
        x: input, (B, E).
        state: (h,), (B, H).
        weights: with the three blocks r, z, n.

    Returns:
        The next state (h',), and the gates, each (B, H).
    """
    (h,) = state
    r_x, z_x, n_x = (x @ weights.w_ih.T + weights.b_ih).chunk(3, dim=1)  # (B, H) each
    r_h, z_h, n_h = (h @ weights.w_hh.T + weights.b_hh).chunk(3, dim=1)  # (B, H) each
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)  # (B, H) each
    n = torch.tanh(n_x + r * n_h)  # (B, H)
    h = (1 - z) * n + z * h  # (B, H)
    return (h,), {"reset": r, "update": z, "candidate": n}


Step = Callable[[Tensor, State, Weights], tuple[State, Gates]]
STEPS: dict[str, Step] = {"RNN": rnn_step, "LSTM": lstm_step, "GRU": gru_step}


def first_state(cell: str, batch: int, like: Tensor, hidden: int) -> State:
    """Return the initial state, zeros of shape (batch, hidden), with the dtype and device of another tensor."""
    zeros = like.new_zeros(batch, hidden)
    return (zeros, zeros) if cell == "LSTM" else (zeros,)


def read_weights(layer: nn.RNNBase, number: int = 0, *, reverse: bool = False) -> Weights:
    """Return the weights of one direction of one layer of a torch.nn.RNN, LSTM or GRU, without copying them."""
    suffix = f"l{number}{'_reverse' if reverse else ''}"
    names = (f"weight_ih_{suffix}", f"weight_hh_{suffix}", f"bias_ih_{suffix}", f"bias_hh_{suffix}")
    return Weights(*(getattr(layer, name) for name in names))


def unroll(cell: str, inputs: Tensor, weights: Weights, *, reverse: bool = False) -> tuple[Tensor, State, Gates]:
    """Run one direction of one layer over a sequence, step by step.

    Args:
        cell: "RNN", "LSTM" or "GRU".
        inputs: (B, T, E).
        weights: of this direction of this layer.
        reverse: read from the last step to the first.

    Returns:
        The hidden state at each step, (B, T, H), the state after the last step read, and each gate, (B, T, H).
    """
    length = inputs.shape[1]
    state = first_state(cell, len(inputs), inputs, weights.w_hh.shape[1])
    hidden: list[Tensor] = []
    gates: list[Gates] = []
    for t in reversed(range(length)) if reverse else range(length):
        state, step_gates = STEPS[cell](inputs[:, t], state, weights)
        hidden.append(state[0])
        gates.append(step_gates)
    if reverse:
        hidden.reverse()
        gates.reverse()
    by_gate = {name: torch.stack([step[name] for step in gates], dim=1) for name in gates[0]}  # (B, T, H) each
    return torch.stack(hidden, dim=1), state, by_gate
