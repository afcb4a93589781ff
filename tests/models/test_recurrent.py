"""Sequences of different lengths in one batch are read as each alone."""

import numpy as np
import pytest
import torch
from torch import Tensor

from unroll.core.settings import ModelConfig, TrainConfig
from unroll.models.recurrent import run_layers
from unroll.models.span_classifier import CELLS, SpanClassifier
from unroll.text.batches import make_batch
from unroll.text.corpus import Corpus
from unroll.training.losses import BatchTotals, Objective

LENGTHS = [7, 1, 4, 7, 2]


@pytest.mark.parametrize("is_bidirectional", [True, False])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_states_and_gradients_equal_those_of_each_sequence_alone(
    cell: str, layers: int, is_bidirectional: bool
) -> None:
    recurrent = CELLS[cell](3, 5, num_layers=layers, batch_first=True, bidirectional=is_bidirectional).double()
    inputs = torch.randn(len(LENGTHS), max(LENGTHS), 3, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor(LENGTHS)
    is_token = (torch.arange(max(LENGTHS)) < lengths[:, None])[:, :, None]
    weight = torch.randn(len(LENGTHS), max(LENGTHS), 5 * (1 + is_bidirectional), dtype=torch.float64) * is_token

    def gradients(hidden: Tensor, weight: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad((hidden * weight).sum(), [inputs, *recurrent.parameters()], allow_unused=True))

    padded = run_layers(recurrent, inputs * 1, lengths)
    alone = [recurrent(inputs[row : row + 1, :length])[0][0] for row, length in enumerate(LENGTHS)]
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(padded[row, :length], alone[row])
    together = gradients(padded, weight)
    summed = gradients(torch.cat(alone), torch.cat([weight[row, :length] for row, length in enumerate(LENGTHS)]))
    for found, expected in zip(together, summed, strict=True):
        torch.testing.assert_close(found, expected)
    same, everywhere = torch.full_like(lengths, max(LENGTHS)), torch.randn_like(weight)
    for count in (None, same):
        for found, expected in zip(
            gradients(run_layers(recurrent, inputs * 1, count), everywhere),
            gradients(recurrent(inputs * 1)[0], everywhere),
            strict=True,
        ):
            torch.testing.assert_close(found, expected)
    torch.testing.assert_close(run_layers(recurrent, inputs[:, :1], None), recurrent(inputs[:, :1])[0])


@pytest.mark.parametrize("cell", CELLS)
def test_the_loss_of_a_padded_batch_is_that_of_its_sequences(
    cell: str, small_model: ModelConfig, plain_recipe: TrainConfig
) -> None:
    offsets = np.cumsum([0, *LENGTHS])
    tokens = np.random.default_rng(1).integers(1, 9, offsets[-1]).astype(np.int32)
    spans = np.arange(offsets[-1])  # one a token, up to the end of its sequence
    ends = np.repeat(offsets[1:] - offsets[:-1], LENGTHS)
    starts = np.concatenate([np.arange(length) for length in LENGTHS])
    corpus = Corpus(
        tokens=tokens, offsets=offsets, folds=np.zeros(5, int), span_offsets=offsets, starts=starts, ends=ends,
        targets=(spans % 5).astype(np.float32)[:, None], row_ids=spans,
    )  # fmt: skip
    model = SpanClassifier(cell, small_model, 9, 5)
    recipe = plain_recipe.model_copy(update={"language_model": 0.5})
    objective = Objective(model, recipe, torch.ones(9)).eval()
    totals = BatchTotals(len(spans), len(spans) - len(LENGTHS))

    def losses(parts: list[list[int]]) -> tuple[Tensor, list[Tensor]]:
        objective.zero_grad()
        total = sum(objective(make_batch(corpus, np.array(part)), totals)[0] for part in parts)
        assert isinstance(total, Tensor)
        total.backward()  # type: ignore[no-untyped-call]
        return total.detach(), [weight.grad.clone() for weight in objective.parameters() if weight.grad is not None]

    together, gradients = losses([[0, 1, 2, 3, 4]])
    alone, expected = losses([[0], [1], [2], [3], [4]])
    torch.testing.assert_close(together, alone)
    for found, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
