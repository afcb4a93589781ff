from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unroll.models.cells import STEPS, State, read_weights, unroll
from unroll.models.span_classifier import CELLS

DOUBLE: Any = {"dtype": torch.float64}


def unroll_layers(cell: str, layer: nn.RNNBase, inputs: Tensor) -> Tensor:
    """Run all layers and directions as equations: (B, T, E) to (B, T, D * H)."""
    for number in range(layer.num_layers):
        hidden = [
            unroll(cell, inputs, read_weights(layer, number, reverse=reverse), reverse=reverse)[0]
            for reverse in ((False, True) if layer.bidirectional else (False,))
        ]
        inputs = torch.cat(hidden, dim=2)
    return inputs


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_equations_equal_torch_nn_in_outputs_and_gradients(cell: str, layers: int, bidirectional: bool) -> None:
    layer = CELLS[cell](4, 3, num_layers=layers, batch_first=True, bidirectional=bidirectional, **DOUBLE)
    inputs = torch.randn(2, 7, 4, requires_grad=True, **DOUBLE)
    seed = torch.randn(2, 7, 3 * (1 + bidirectional), **DOUBLE)
    leaves = [inputs, *layer.parameters()]

    expected = layer(inputs)[0]
    expected_gradients = torch.autograd.grad((expected * seed).sum(), leaves)
    found = unroll_layers(cell, layer, inputs)
    found_gradients = torch.autograd.grad((found * seed).sum(), leaves)

    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    for gradient, expected_gradient in zip(found_gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-10)


@pytest.mark.parametrize("cell", CELLS)
def test_the_last_state_equals_torch_nns(cell: str) -> None:
    layer = CELLS[cell](4, 3, batch_first=True, **DOUBLE)
    inputs = torch.randn(2, 7, 4, **DOUBLE)
    _, state, _ = unroll(cell, inputs, read_weights(layer))
    expected = layer(inputs)[1]
    for found, right in zip(state, expected if cell == "LSTM" else (expected,), strict=True):
        torch.testing.assert_close(found, right[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("RNN", set()),
        ("LSTM", {"input", "forget", "candidate", "output", "cell"}),
        ("GRU", {"reset", "update", "candidate"}),
    ],
)
def test_gates_are_returned_for_every_step_and_are_gates(cell: str, names: set[str]) -> None:
    layer = CELLS[cell](4, 3, batch_first=True)
    hidden, _, gates = unroll(cell, torch.randn(2, 7, 4), read_weights(layer))
    assert gates.keys() == names
    for name, gate in gates.items():
        assert gate.shape == hidden.shape == (2, 7, 3)
        if name not in ("candidate", "cell"):
            assert ((gate > 0) & (gate < 1)).all()


def test_gates_of_a_reversed_reading_stand_at_their_own_step() -> None:
    layer = nn.GRU(4, 3, batch_first=True)
    inputs = torch.randn(1, 5, 4)
    _, _, gates = unroll("GRU", inputs, read_weights(layer), reverse=True)
    _, _, mirrored = unroll("GRU", inputs.flip(1), read_weights(layer))
    torch.testing.assert_close(gates["update"], mirrored["update"].flip(1))


def test_an_lstm_with_an_open_forget_gate_and_a_closed_input_gate_keeps_its_memory() -> None:
    layer = nn.LSTM(1, 1, batch_first=True)
    weights = read_weights(layer)
    with torch.no_grad():
        for tensor in (weights.w_ih, weights.w_hh, weights.b_hh):
            tensor.zero_()
        weights.b_ih.copy_(torch.tensor([-100.0, 100.0, 0.0, 100.0]))  # input shut, forget open, output open
    state: State = (torch.zeros(1, 1), torch.full((1, 1), 0.5))
    for _ in range(20):
        state, _ = STEPS["LSTM"](torch.ones(1, 1), state, weights)
    assert state[1].item() == pytest.approx(0.5)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_shapes_of_the_courses_nutshell(cell: str, batch: int) -> None:
    layer = CELLS[cell](input_size=4, hidden_size=2, batch_first=True)
    inputs = torch.randn(batch, 5, 4)
    assert layer(inputs)[0].shape == (batch, 5, 2)
    assert unroll_layers(cell, layer, inputs).shape == (batch, 5, 2)
