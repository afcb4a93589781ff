"""Padded batches that lie on a device, and training steps captured as graphs, against the plain ones."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from unroll.core.settings import ModelConfig, TrainConfig
from unroll.models.span_classifier import SpanClassifier
from unroll.text.batches import make_batch
from unroll.text.corpus import Corpus
from unroll.text.vocabulary import Vocabulary
from unroll.training import fit, graphs
from unroll.training.distributed import Processes, shard_batch
from unroll.training.fit import EagerStep, make_train_step
from unroll.training.graphs import GraphedStep, ResidentCorpus, round_up
from unroll.training.state import EpochRecord, TrainState

# Of cuDNN, where the directions are called apart.
pytestmark = pytest.mark.filterwarnings("ignore:RNN module weights")

RECIPE = {
    "schedule": "one_cycle",
    "warmup": 0.3,
    "language_model": 0.3,
    "word_dropout": 0.0,
    "rare_word_dropout": 0.0,
    "ema": 0.9,
    "clip_norm": 1.0,
}


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


def test_a_corpus_that_does_not_fit_on_the_device_is_trained_on_without_graphs(
    small_corpus: tuple[Corpus, Vocabulary], shape: ModelConfig, plain_recipe: TrainConfig,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(fit, "supports", lambda state: True)
    monkeypatch.setattr(graphs, "ResidentCorpus", fail)
    state = make_state(small_corpus[0], shape, plain_recipe, "GRU", len(small_corpus[1]))
    assert isinstance(make_train_step(state, small_corpus[0]), EagerStep)
    assert "warning: the corpus does not fit in the device's memory" in capsys.readouterr().err


def test_a_checkpoint_of_captured_steps_is_continued_on_a_cpu(
    small_corpus: tuple[Corpus, Vocabulary], shape: ModelConfig, plain_recipe: TrainConfig, tmp_path: Path
) -> None:
    """Captured steps leave the learning rate as a tensor, and an optimizer that a CPU does not have."""
    corpus, vocabulary = small_corpus
    made = [make_state(corpus, shape, plain_recipe, "GRU", len(vocabulary)) for _ in range(2)]
    for _ in range(2):
        EagerStep(made[0], corpus)(np.array([0, 1]))
    for group in made[0].optimizer.param_groups:
        group["lr"], group["capturable"] = torch.tensor(group["lr"]), True
    made[0].add(EpochRecord(1, 1.0, made[0].learning_rate(), {"accuracy": 0.5}))
    made[0].save(tmp_path)
    assert made[1].resume(tmp_path, lambda record, speed: None) == 1
    assert made[1].learning_rate() == made[0].learning_rate() == pytest.approx(0.01)
    EagerStep(made[1], corpus)(np.array([0, 1]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: make test-cuda")
@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("embedding", [None, 4])
def test_graphs_train_what_the_plain_steps_train(
    small_corpus: tuple[Corpus, Vocabulary], shape: ModelConfig, plain_recipe: TrainConfig, cell: str,
    embedding: int | None,
) -> None:  # fmt: skip
    shape = shape.model_copy(update={"embedding": embedding})
    graphed = assert_equal_trainings(small_corpus, shape, plain_recipe, cell)
    assert isinstance(make_train_step(graphed.state, small_corpus[0]), GraphedStep)
    assert len(graphed.graphs) == 3, "of the last five batches, which have three shapes"


def assert_equal_trainings(
    small_corpus: tuple[Corpus, Vocabulary], shape: ModelConfig, recipe: TrainConfig, cell: str
) -> GraphedStep:
    corpus, vocabulary = small_corpus
    language_model = RECIPE["language_model"] if shape.embedding else 0.0
    recipe = recipe.model_copy(update={**RECIPE, "precision": "fp32", "language_model": language_model})
    state = make_state(corpus, shape, recipe, cell, len(vocabulary))
    other = make_state(corpus, shape, recipe, cell, len(vocabulary))
    other.model.load_state_dict(copy.deepcopy(state.model.state_dict()))
    eager, graphed = EagerStep(state, corpus), GraphedStep(other, corpus)
    batches = [np.array(batch) for batch in ([0, 1], [2], [1, 2], [0], [2], [0, 1], [2], [0, 1])]
    first, second = ([float(train_step(batch)) for batch in batches] for train_step in (eager, graphed))
    assert first == pytest.approx(second, abs=1e-4)
    assert first[-1] < first[0]
    for one, two in ((state.model, other.model), (state.eval_model, other.eval_model)):
        torch.testing.assert_close(one.state_dict(), two.state_dict(), atol=1e-4, rtol=1e-3)
    return graphed
