"""Padded batches that lie on a device, and training steps captured as graphs, against the plain ones."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from unroll.core.settings import ModelConfig, TrainConfig
from unroll.models.span_classifier import SpanClassifier
from unroll.text.batches import make_batch
from unroll.text.corpus import Corpus
from unroll.text.vocabulary import Vocabulary
from unroll.training import graphs
from unroll.training.distributed import Processes, shard_batch
from unroll.training.fit import EagerSteps, take_steps
from unroll.training.graphs import GraphedSteps, ResidentCorpus, round_up
from unroll.training.state import TrainState

# Of cuDNN, where the directions are called apart.
pytestmark = pytest.mark.filterwarnings("ignore:RNN module weights")

RECIPE = {"language_model": 0.3, "word_dropout": 0.0, "rare_word_dropout": 0.0, "ema": 0.9, "clip_norm": 1.0}


def make_state(corpus: Corpus, shape: ModelConfig, recipe: TrainConfig, cell: str, tokens: int) -> TrainState:
    torch.manual_seed(1)
    model = SpanClassifier(cell, shape, tokens, 5)
    counts = torch.from_numpy(np.bincount(corpus.tokens, minlength=tokens))
    return TrainState(model, recipe, counts, 100, 1, "accuracy")


@pytest.fixture
def shape(small_model: ModelConfig) -> ModelConfig:
    return small_model.model_copy(update={"embedding_dropout": 0.0, "head_dropout": 0.0})


def test_round_up_leaves_few_shapes() -> None:
    assert [round_up(number) for number in (1, 7, 8, 9, 11, 16, 17, 33, 600)] == [1, 7, 8, 10, 12, 16, 20, 40, 640]


@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_padding_changes_neither_loss_nor_gradients(
    small_corpus: tuple[Corpus, Vocabulary], shape: ModelConfig, plain_recipe: TrainConfig, cell: str
) -> None:
    corpus, vocabulary = small_corpus
    hidden = np.array(corpus.targets)
    hidden[2] = np.nan  # a label that is not known
    corpus, sequences = replace(corpus, targets=hidden), np.array([2, 0])
    state = make_state(corpus, shape, plain_recipe.model_copy(update=RECIPE), cell, len(vocabulary))
    gradients = []
    device = state.accelerator.device
    batch, totals = ResidentCorpus(corpus, device).make_batch(torch.tensor([2, 0, -1, -1], device=device), 16, 12)
    assert batch.tokens.shape == (4, 16)
    assert batch.targets.shape == (12, 1)
    plain = make_batch(corpus, sequences)
    for each, numbers in ((batch, totals), shard_batch(corpus, sequences, Processes(0, 1))):
        state.model.zero_grad()
        loss, _ = state.objective(each.to(device), numbers)
        loss.backward()
        gradients.append([loss.detach(), *(weight.grad for weight in state.model.parameters())])
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-5)
    spans = len(plain.spans)
    assert batch.spans[:spans].tolist() == plain.spans.tolist()
    assert int(totals.labelled) == int(plain.targets.isfinite().sum())


def test_steps_on_a_resident_corpus_train_what_the_plain_ones_train(
    small_corpus: tuple[Corpus, Vocabulary], shape: ModelConfig, plain_recipe: TrainConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """On the CPU the steps are those before the first capture."""
    monkeypatch.setattr(graphs, "EAGER_STEPS", 1000)
    assert_equal_trainings(small_corpus, shape, plain_recipe, "GRU")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("embedding", [None, 4])
def test_graphs_train_what_the_plain_steps_train(
    small_corpus: tuple[Corpus, Vocabulary], shape: ModelConfig, plain_recipe: TrainConfig, cell: str,
    embedding: int | None,
) -> None:  # fmt: skip
    shape = shape.model_copy(update={"embedding": embedding})
    steps = assert_equal_trainings(small_corpus, shape, plain_recipe, cell)
    assert isinstance(take_steps(steps.state, small_corpus[0]), GraphedSteps)
    assert steps.pool is not None


def assert_equal_trainings(
    small_corpus: tuple[Corpus, Vocabulary], shape: ModelConfig, recipe: TrainConfig, cell: str
) -> GraphedSteps:
    corpus, vocabulary = small_corpus
    language_model = RECIPE["language_model"] if shape.embedding else 0.0
    recipe = recipe.model_copy(update={**RECIPE, "precision": "fp32", "language_model": language_model})
    state = make_state(corpus, shape, recipe, cell, len(vocabulary))
    other = make_state(corpus, shape, recipe, cell, len(vocabulary))
    other.model.load_state_dict(copy.deepcopy(state.model.state_dict()))
    eager, graphed = EagerSteps(state, corpus), GraphedSteps(other, corpus)
    batches = [np.array(batch) for batch in ([0, 1], [2], [1, 2], [0], [2], [0, 1], [2], [0, 1])]
    first, second = ([float(steps(batch)) for batch in batches] for steps in (eager, graphed))
    assert first == pytest.approx(second, abs=1e-4)
    assert first[-1] < first[0]
    for one, two in ((state.model, other.model), (state.eval_model, other.eval_model)):
        torch.testing.assert_close(one.state_dict(), two.state_dict(), atol=1e-4, rtol=1e-3)
    return graphed
