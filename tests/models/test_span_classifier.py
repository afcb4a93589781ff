import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from unroll.core.errors import UnrollError
from unroll.core.settings import ModelConfig, Pooling
from unroll.models.dropout import Dropout, drop
from unroll.models.pooling import pool_by_tensors, pool_spans
from unroll.models.span_classifier import CELLS, SpanClassifier
from unroll.text.batches import iterate_batches
from unroll.text.corpus import Corpus
from unroll.text.vocabulary import Vocabulary

POOLINGS: tuple[Pooling, ...] = ("first", "last", "mean", "max")


def pool_by_loop(hidden: Tensor, spans: list[tuple[int, int, int]], pooling: tuple[Pooling, ...]) -> Tensor:
    rows = []
    for sequence, start, end in spans:
        states = hidden[sequence, start:end]
        kinds = {"first": states[0], "last": states[-1], "mean": states.mean(0), "max": states.max(0).values}
        rows.append(torch.cat([kinds[kind] for kind in pooling]))
    return torch.stack(rows)


@given(st.integers(1, 3), st.integers(1, 17), st.data())
@settings(max_examples=60, deadline=None)
def test_span_pooling_equals_a_plain_loop_in_values_and_gradients(batch: int, length: int, data: st.DataObject) -> None:
    spans = [(b, s, e) for b in range(batch) for s in range(length) for e in range(s + 1, length + 1)]
    chosen = data.draw(st.lists(st.sampled_from(spans), min_size=1, max_size=30))
    count = data.draw(st.integers(1, 4))
    pooling = data.draw(st.sampled_from(list(itertools.permutations(POOLINGS, count))))
    check_pooling(torch.randn(batch, length, 3, dtype=torch.float64, requires_grad=True), chosen, pooling)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.sampled_from(list(itertools.permutations(POOLINGS, 3))))
@settings(max_examples=30, deadline=None)
def test_whole_texts_are_pooled_as_by_a_plain_loop(lengths: list[int], pooling: tuple[Pooling, ...]) -> None:
    hidden = torch.randn(len(lengths), max(lengths), 3, dtype=torch.float64, requires_grad=True)
    check_pooling(hidden, [(number, 0, length) for number, length in enumerate(lengths)], pooling)


def check_pooling(hidden: Tensor, spans: list[tuple[int, int, int]], pooling: tuple[Pooling, ...]) -> None:
    expected = pool_by_loop(hidden, spans, pooling)
    weights = torch.randn_like(expected)
    gradient = torch.autograd.grad((expected * weights).sum(), hidden)[0]
    sequence, start, end = torch.tensor(spans).T.unbind()
    for pool in (pool_spans, pool_by_tensors):
        found = pool(hidden, sequence, start, end, pooling)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad((found * weights).sum(), hidden)[0], gradient)


@pytest.mark.parametrize("pool", [pool_spans, pool_by_tensors])
@pytest.mark.parametrize("spans", [1, 30])  # few, and as many as share maxima
@pytest.mark.parametrize("place", [0, 1, 3])
def test_states_that_are_not_numbers_stay_so_when_pooled(spans: int, place: int, pool: Any) -> None:
    hidden = torch.zeros(1, 4, 1)
    hidden[0, place] = math.nan
    first = torch.zeros(spans, dtype=torch.int64)
    pooled = pool(hidden.requires_grad_(), first, first, first + 4, POOLINGS)
    assert pooled[:, 2:].isnan().all()
    assert torch.autograd.grad(pooled.sum(), hidden)[0].shape == hidden.shape


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("batch", [1, 30])  # below FEWEST_TOKENS and above
def test_every_span_of_a_long_sequence_is_pooled_right(batch: int, learns: bool) -> None:
    hidden = torch.randn(batch, 70, 2, requires_grad=learns)
    spans = [(batch - 1, start, end) for start in range(70) for end in range(start + 1, 71)]
    sequence, start, end = torch.tensor(spans).T.unbind()
    found = pool_spans(hidden, sequence, start, end, POOLINGS)
    torch.testing.assert_close(found, pool_by_loop(hidden, spans, POOLINGS), rtol=0, atol=1e-5)


@pytest.mark.parametrize("learns", [False, True])
def test_a_mean_over_bf16_states_is_summed_in_fp32(learns: bool) -> None:
    hidden, zero = torch.ones(1, 1000, 1, dtype=torch.bfloat16, requires_grad=learns), torch.tensor([0])
    pooled = pool_spans(hidden, zero, zero + 998, zero + 1000, ("mean",))
    assert pooled.dtype == torch.bfloat16
    assert pooled.item() == 1
    if learns:
        (gradient,) = torch.autograd.grad(pooled.sum(), hidden)
        assert gradient.dtype == torch.bfloat16
        assert gradient.flatten().tolist() == [0] * 998 + [0.5, 0.5]
    ones = torch.full((1, 171, 1), 1.001, requires_grad=learns)
    with torch.autocast("cpu", torch.bfloat16):  # which has no 1.001
        pooled = pool_spans(ones, zero, zero, zero + 171, ("mean",))
    assert pooled.item() == pytest.approx(1.001, abs=1e-5)


@pytest.mark.parametrize("pool", [pool_spans, pool_by_tensors])
def test_without_spans_there_is_nothing_to_pool(pool: Any) -> None:
    hidden, none = torch.randn(2, 3, 4).transpose(0, 1).requires_grad_(), torch.zeros(0, dtype=torch.int64)
    pooled = pool(hidden, none, none, none, POOLINGS)
    assert pooled.shape == (0, 16)
    (gradient,) = torch.autograd.grad(pooled.sum(), hidden)
    assert torch.equal(gradient, torch.zeros(3, 2, 4))


@pytest.mark.parametrize("cell", CELLS)
def test_one_hot_input_equals_a_fixed_identity_embedding(
    cell: str, small_model: ModelConfig, small_corpus: tuple[Corpus, Vocabulary]
) -> None:
    corpus, vocabulary = small_corpus
    one_hot = SpanClassifier(cell, small_model.model_copy(update={"embedding": None}), len(vocabulary), 5).eval()
    embedded = SpanClassifier(
        cell, small_model.model_copy(update={"embedding": len(vocabulary)}), len(vocabulary), 5
    ).eval()
    embedded.load_state_dict(one_hot.state_dict() | {"embedding.weight": torch.eye(len(vocabulary))})
    for batch in iterate_batches(corpus, np.arange(3), 3, 100):
        torch.testing.assert_close(one_hot(batch), embedded(batch))


def test_without_a_head_the_pooled_states_are_the_logits(
    small_model: ModelConfig, small_corpus: tuple[Corpus, Vocabulary]
) -> None:
    corpus, vocabulary = small_corpus
    config = small_model.model_copy(update={"head": "none", "pooling": ("last",), "bidirectional": False})
    model = SpanClassifier("RNN", config, len(vocabulary), outputs=4).eval()
    for batch in iterate_batches(corpus, np.arange(3), 3, 100):
        hidden = model.encode(batch.tokens)
        torch.testing.assert_close(model(batch), hidden[batch.sequence, batch.end - 1])


def test_no_head_and_a_pooled_size_that_is_not_the_number_of_classes_is_refused(small_model: ModelConfig) -> None:
    with pytest.raises(UnrollError, match=r"model.head: none needs a pooled size of 5.*found 32"):
        SpanClassifier("RNN", small_model.model_copy(update={"head": "none"}), 7, 5)


def test_of_two_equal_maxima_the_earlier_gets_the_gradient() -> None:
    hidden = torch.tensor([[[0.0], [2.0], [1.0], [2.0], [2.0]] + [[0.0]] * 10], requires_grad=True)  # (1, 15, 1)
    sequence, start, end = torch.tensor([[0, 0, 5], [0, 2, 5]]).T.unbind()
    pooled = pool_spans(hidden, sequence, start, end, ("max",))
    (gradient,) = torch.autograd.grad(pooled.sum(), hidden)
    assert gradient.flatten().tolist() == [0, 1, 0, 1, 0] + [0] * 10


@pytest.mark.parametrize("pool", [pool_spans, pool_by_tensors])
@pytest.mark.parametrize("spans", [3, 30])  # few, and as many as share maxima
def test_padding_gets_a_gradient_of_exactly_zero(spans: int, pool: Any) -> None:
    hidden = torch.randn(3, 9, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
    sequence = torch.arange(spans) % 3
    start, end = torch.arange(spans) // 3 % 4, torch.full((spans,), 5)
    pooled = pool(hidden, sequence, start, end, POOLINGS)
    weights = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad((pooled * weights).sum(), hidden)
    assert gradient[:, :5].abs().min() > 0
    assert torch.equal(gradient[:, 5:], torch.zeros(3, 4, 5))


@pytest.mark.parametrize("rate", [0.25, 0.9])
def test_dropout_of_pooled_states_is_that_of_any_values(rate: float) -> None:
    hidden = torch.randn(4, 9, 33, requires_grad=True)
    sequence, start, end = torch.tensor([[0, 0, 9], [1, 3, 5], [3, 8, 9], [3, 0, 2]]).T.unbind()
    found = []
    for rates in ((rate, 0.0), (0.0, rate)):
        torch.manual_seed(1)
        pooled = drop(pool_spans(hidden, sequence, start, end, POOLINGS, rates[0]), rates[1])
        found.append((pooled, *torch.autograd.grad((pooled**2).sum(), hidden)))
    torch.testing.assert_close(*found)
    assert (found[0][0] == 0).double().mean().item() == pytest.approx(rate, abs=0.08)


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.9])
def test_dropout_zeroes_its_share_and_keeps_the_mean(rate: float) -> None:
    dropout = Dropout(rate)
    values = torch.ones(1001, 999, requires_grad=True)
    dropped = dropout(values)
    share = (dropped == 0).double().mean().item()
    assert share == pytest.approx(rate, abs=0.004)
    assert dropped.double().mean().item() == pytest.approx(1, abs=0.02)
    assert dropped.unique().tolist() == [0, pytest.approx(256 / (256 - round(rate * 256)))]
    (gradient,) = torch.autograd.grad(dropped.sum(), values)
    torch.testing.assert_close(gradient, dropped.detach())
    columns, rows = ((dropped == 0).double().mean(axis).std().item() for axis in (0, 1))
    assert max(columns, rows) < 0.03, "zeros are spread evenly"
    assert dropout.eval()(values) is values


def test_two_dropouts_of_one_seed_are_equal() -> None:
    dropout, values = Dropout(0.5), torch.randn(7, 5)
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append([dropout(values), dropout(values)])
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    assert not torch.equal(found[0][0], found[0][1])


def test_a_head_with_a_hidden_layer_has_its_size(small_model: ModelConfig) -> None:
    model = SpanClassifier("GRU", small_model.model_copy(update={"head": "mlp", "head_hidden": 7}), 9, 3)
    shapes = [tuple(weights.shape) for name, weights in model.named_parameters() if name.startswith("head")]
    assert shapes == [(7, 32), (7,), (3, 7), (3,)]


@pytest.mark.parametrize(("head", "head_hidden"), [("mlp", None), ("linear", 4), ("none", 4)])
def test_a_head_and_its_size_go_together(small_model: ModelConfig, head: str, head_hidden: int | None) -> None:
    with pytest.raises(ValidationError, match=r"head_hidden: found (None, expected a number|4, expected null)"):
        ModelConfig.model_validate(small_model.model_dump() | {"head": head, "head_hidden": head_hidden})
