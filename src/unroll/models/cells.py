"""RNN, LSTM and GRU written out as their equations, one step at a time.

The equations, the order of the gates and the weights' names are those of torch.nn.RNN, LSTM and GRU, so a trained
layer's weights can be read by these functions, which return every gate as well. torch.nn is what trains fast; this is
what explains.

Letters in the shapes: B sequences, T steps, E input size, H hidden size. sigma is the logistic function, * the product
element by element, @ the matrix product.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

State = tuple[Tensor, ...]
Gates = dict[str, Tensor]


@dataclass(frozen=True)
class Weights:
    """One direction of one layer; the blocks of G gates (1 for RNN, 4 for LSTM, 3 for GRU) lie one under the other.

    Attributes:
        w_ih: from the input, (G * H, E).
        w_hh: from the state before, (G * H, H).
        b_ih: added to the input's share, (G * H,).
        b_hh: added to the state's share, (G * H,).
    """

    w_ih: Tensor
    w_hh: Tensor
    b_ih: Tensor
    b_hh: Tensor


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
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * n_h)
    h = (1 - z) * n + z * h  # (B, H)
    return (h,), {"reset": r, "update": z, "candidate": n}


Step = Callable[[Tensor, State, Weights], tuple[State, Gates]]
STEPS: dict[str, Step] = {"RNN": rnn_step, "LSTM": lstm_step, "GRU": gru_step}


def first_state(cell: str, batch: int, like: Tensor, hidden: int) -> State:
    """Return the state before the first step, zeros of shape (batch, hidden), of another tensor's type and device."""
    zeros = like.new_zeros(batch, hidden)
    return (zeros, zeros) if cell == "LSTM" else (zeros,)


def read_weights(layer: nn.RNNBase, number: int = 0, *, reverse: bool = False) -> Weights:
    """Return the weights of one direction of one layer of a torch.nn.RNN, LSTM or GRU, not copied."""
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
    drawn = {name: torch.stack([step[name] for step in gates], dim=1) for name in gates[0]}  # (B, T, H) each
    return torch.stack(hidden, dim=1), state, drawn


def unroll_layers(layer: nn.RNNBase, inputs: Tensor) -> tuple[Tensor, list[Gates]]:
    """Run all layers and directions of a torch.nn.RNN, LSTM or GRU as equations, without its dropout.

    Args:
        layer: with batch_first, of any number of layers, one or two directions.
        inputs: (B, T, E).

    Returns:
        The last layer's hidden states, (B, T, D * H) for D directions, and the gates of each layer and direction, the
        forward direction of the first layer first.
    """
    directions = (False, True) if layer.bidirectional else (False,)
    all_gates = []
    for number in range(layer.num_layers):
        outputs = []
        for reverse in directions:
            weights = read_weights(layer, number, reverse=reverse)
            hidden, _, gates = unroll(layer.mode.removesuffix("_TANH"), inputs, weights, reverse=reverse)
            outputs.append(hidden)
            all_gates.append(gates)
        inputs = torch.cat(outputs, dim=2)  # (B, T, D * H)
    return inputs, all_gates
