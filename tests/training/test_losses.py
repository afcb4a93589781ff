import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from unroll.core.settings import ModelConfig, TrainConfig
from unroll.models.language_model import NUM_SAMPLED, LanguageModel
from unroll.models.span_classifier import CELLS, SpanClassifier
from unroll.text.batches import Batch, make_batch
from unroll.text.corpus import Corpus
from unroll.text.vocabulary import UNKNOWN_ID, Vocabulary
from unroll.training.losses import BatchTotals, Objective

Small = tuple[Corpus, Vocabulary]


@pytest.fixture
def model(small_corpus: Small, small_model: ModelConfig) -> SpanClassifier:
    return SpanClassifier("LSTM", small_model, len(small_corpus[1]), 5).eval()


@pytest.fixture
def batch(small_corpus: Small) -> Batch:
    return make_batch(small_corpus[0], np.array([1, 0, 2]))


def counts_of(batch: Batch, size: int) -> torch.Tensor:
    return torch.bincount(batch.tokens.flatten(), minlength=size)


@pytest.mark.parametrize("is_sampled", [False, True])
def test_a_language_model_predicts_the_word_after_and_the_word_before(
    model: SpanClassifier, batch: Batch, is_sampled: bool
) -> None:
    """Its loss is that of the softmax over the vocabulary, written here as a plain loop, or an estimate of it."""
    tokens = batch.tokens.clone()
    tokens[0, 1] = UNKNOWN_ID  # read, and not predicted
    hidden = model.encode(tokens)
    counts = torch.arange(model.tokens) ** 2 + 1  # words drawn at very different rates
    language_model = LanguageModel(model, counts)
    assert not language_model.is_sampled
    language_model.is_sampled = is_sampled
    for projection in language_model.projections:
        torch.nn.init.normal_(next(projection.parameters()))
    assert model.embedding is not None
    scaled = model.embedding.weight * 5
    model.embedding.weight.data = scaled.data
    forward, backward = hidden.chunk(2, dim=2)
    expected = 0.0
    for row, words in enumerate(tokens.tolist()):
        for place in range(len(words) - 1):
            for projection, state, word in (
                (language_model.projections[0], forward[row, place], words[place + 1]),
                (language_model.projections[1], backward[row, place + 1], words[place]),
            ):
                if word != UNKNOWN_ID:
                    logits = (scaled @ projection(state))[UNKNOWN_ID + 1 :]
                    expected -= logits.log_softmax(0)[word - UNKNOWN_ID - 1].item()
    found = [language_model(hidden, replace(batch, tokens=tokens)).item() for _ in range(200)]
    assert (len(set(found)) > 1) == is_sampled
    assert np.mean(found) == pytest.approx(expected, rel=0.01 if is_sampled else 1e-5)


def test_several_threads_give_the_language_model_the_same_gradient_every_time() -> None:
    """A word that stands often in a batch gets a sum, whose order must not be left to chance."""
    torch.set_num_threads(2)
    config = ModelConfig(
        embedding=64, hidden=32, layers=1, bidirectional=True, pooling=("last",), head="linear", head_hidden=None,
        embedding_dropout=0.0, layer_dropout=0.0, head_dropout=0.0,
    )  # fmt: skip
    words = NUM_SAMPLED + 100
    model = SpanClassifier("RNN", config, words, 5)
    language_model = LanguageModel(model, torch.ones(words))
    tokens, none = torch.randint(1, 9, (64, 40)), torch.empty(0)
    batch = Batch(tokens, None, none, none, none, none, none)
    hidden = model.encode(tokens).detach()
    gradients = []
    for _ in range(10):
        torch.manual_seed(1)
        model.zero_grad()
        language_model(hidden, batch).backward()
        assert model.embedding is not None
        assert model.embedding.weight.grad is not None
        gradients.append(model.embedding.weight.grad.clone())
    assert language_model.is_sampled
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)


@pytest.mark.parametrize("cell", CELLS)
def test_all_weights_have_a_gradient_whatever_a_batch_holds(
    small_corpus: Small, small_model: ModelConfig, full_recipe: TrainConfig, cell: str
) -> None:
    """Processes that train together wait for each other's gradient of every weight."""
    corpus, vocabulary = small_corpus
    model = SpanClassifier(cell, small_model, len(vocabulary), 5)
    objective = Objective(model, full_recipe, torch.ones(len(vocabulary)))
    whole = make_batch(corpus, np.array([0]))
    unlabelled = Batch(**{**vars(whole), "targets": torch.full_like(whole.targets, math.nan)})
    one_word = Batch(
        tokens=whole.tokens[:, :1], lengths=None, sequence=torch.tensor([0]), start=torch.tensor([0]),
        end=torch.tensor([1]),
        targets=torch.tensor([[3.0]]), spans=torch.tensor([0]),
    )  # fmt: skip
    for batch, labelled in ((whole, len(whole.targets)), (unlabelled, 0), (one_word, 1)):
        objective.zero_grad()
        loss, loss_of_labels = objective(batch, BatchTotals(max(1, labelled), 1))
        loss.backward()
        assert torch.isfinite(loss)
        assert (loss_of_labels > 0) == (labelled > 0)
        for name, weight in objective.named_parameters():
            assert weight.grad is not None, name
            assert torch.isfinite(weight.grad).all(), name


def test_labels_that_are_not_known_do_not_count(
    model: SpanClassifier, batch: Batch, full_recipe: TrainConfig, plain_recipe: TrainConfig
) -> None:
    counts = counts_of(batch, model.tokens)
    hidden = batch.sequence != 0
    targets = batch.targets.masked_fill(~hidden[:, None], math.nan)
    half = Batch(**{**vars(batch), "targets": targets})
    _, found = Objective(model, full_recipe, counts)(half, BatchTotals(int(hidden.sum()), 3))
    smoothing = full_recipe.label_smoothing
    expected = functional.cross_entropy(
        model(batch)[hidden], batch.targets[hidden, 0].long(), label_smoothing=smoothing
    )
    torch.testing.assert_close(found, expected.detach())
    alone, labels_alone = Objective(model, plain_recipe, counts)(half, BatchTotals(int(hidden.sum()), 3))
    assert alone.item() == labels_alone.item()


def test_several_labels_and_numbers_have_a_loss_of_their_own_and_unknown_ones_do_not_count(
    batch: Batch, small_model: ModelConfig, plain_recipe: TrainConfig
) -> None:
    counts, size = torch.ones(9), len(batch.targets)
    truth = torch.arange(2.0 * size).reshape(size, 2) % 2
    truth[0, 1] = math.nan
    known, filled = truth.isfinite(), truth.nan_to_num()
    for kind in ("multilabel", "number"):
        model = SpanClassifier("GRU", small_model, 9, 2, kind).eval()
        if kind == "number":
            model.offset, model.scale = torch.tensor([0.5, 1.0]), torch.tensor([2.0, 4.0])
        raw = model(batch)
        if kind == "multilabel":
            parts = functional.binary_cross_entropy_with_logits(raw, filled, reduction="none")
        else:
            parts = ((model.activate(raw) - filled) / model.scale) ** 2
        objective = Objective(model, plain_recipe, counts).eval()
        loss, _ = objective(Batch(**{**vars(batch), "targets": truth}), BatchTotals(size, 3))
        rows = [part[is_known].mean() for part, is_known in zip(parts, known, strict=True)]
        torch.testing.assert_close(loss, torch.stack(rows).mean())
