"""Recurrent layers over sequences of different lengths, without packing: padding never comes before a token."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unroll.models.steps import run_steps, supports

# Of cuDNN, where the directions are called apart; it copies a few hundred kilobytes.
warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous")

FUNCTIONS: dict[str, Any] = {"RNN": torch.rnn_tanh, "LSTM": torch.lstm, "GRU": torch.gru}


def run_layers(layers: nn.RNNBase, inputs: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the hidden states of the last layer, (B, T, D * H), as of each sequence alone; none at padding counts.

    The backward direction of each layer reads its sequences reversed within their own lengths. PyTorch's own way,
    `pack_padded_sequence`, runs a step at a time on a CPU, without the fused kernels.

    Args:
        layers: torch.nn.RNN, LSTM or GRU with batch_first.
        inputs: (B, T, E), padded on the right.
        lengths: of the sequences, (B,); None if all have the length T.
    """
    uses_steps = supports(layers.mode, inputs)  # models/steps.py
    # cuDNN keeps the state of its own dropout in a buffer, which a captured graph cannot renew
    has_dropout = layers.dropout > 0 and layers.training and inputs.device.type != "cpu"
    if not uses_steps and not has_dropout and (lengths is None or not layers.bidirectional):
        hidden: Tensor = layers(inputs)[0]
        return hidden
    size, longest, _ = inputs.shape
    places = torch.arange(longest, device=inputs.device)
    ends = places.new_full((size, 1), longest) if lengths is None else lengths[:, None]
    mirrored = torch.where(places < ends, ends - 1 - places, places)  # (B, T)
    rows = (mirrored + torch.arange(size, device=inputs.device)[:, None] * longest).flatten()  # (B * T,)

    def mirror(values: Tensor) -> Tensor:
        return values.flatten(0, 1).index_select(0, rows).view(values.shape)

    hidden, directions = inputs, 2 if layers.bidirectional else 1
    for number in range(layers.num_layers):
        if number and layers.dropout:
            hidden = functional.dropout(hidden, layers.dropout, layers.training)
        weights = layers.all_weights[directions * number : directions * (number + 1)]
        sides = [hidden, mirror(hidden)] if layers.bidirectional else [hidden]
        if uses_steps:
            states = run_steps(layers.mode, sides, weights)
        else:
            states = [_run_one(layers, side, part) for side, part in zip(sides, weights, strict=True)]
        hidden = torch.cat([states[0], *map(mirror, states[1:])], dim=2)
    return hidden


def _run_one(layers: nn.RNNBase, inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return the hidden states of one direction of one layer, (B, T, H), read from the first step on."""
    zeros = inputs.new_zeros(1, len(inputs), layers.hidden_size)
    state = (zeros, zeros) if layers.mode == "LSTM" else zeros
    run = FUNCTIONS[layers.mode.partition("_")[0]]
    hidden: Tensor = run(inputs, state, list(weights), True, 1, 0.0, layers.training, False, True)[0]
    return hidden
