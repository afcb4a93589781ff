"""Steps of an embedding taken just in time, against dense ones."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from tests.support.definitions import load_task
from unroll.core.settings import ModelConfig, TrainConfig
from unroll.models.span_classifier import SpanClassifier
from unroll.text.corpus import Corpus
from unroll.text.vocabulary import Vocabulary
from unroll.training import just_in_time
from unroll.training.fit import EagerStep, fit
from unroll.training.just_in_time import JustInTimeAdam
from unroll.training.state import EpochRecord, TrainState

WORDS = 700  # more than the language model samples, and most of them in no batch
RECIPE = {
    "optimizer": "adamw",
    "schedule": "one_cycle",
    "warmup": 0.3,
    "language_model": 0.3,
    "lr": 0.01,
    "encoder_lr": 0.5,
    "ema": 0.97,
    "clip_norm": 0.5,
    "weight_decay": 0.1,
}
Corpora = tuple[Corpus, Vocabulary]


@pytest.fixture
def take_steps(
    small_corpus: Corpora, small_model: ModelConfig, plain_recipe: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., TrainState]:
    def take(fewest_rows: int, **changes: Any) -> TrainState:
        monkeypatch.setattr(just_in_time, "FEWEST_ROWS", fewest_rows)
        torch.manual_seed(1)
        model = SpanClassifier("GRU", small_model, WORDS, 5)
        recipe = plain_recipe.model_copy(update=RECIPE | changes)
        state = TrainState(model, recipe, torch.ones(WORDS), 60, 1, "accuracy", is_pretrained=True)
        step = EagerStep(state, small_corpus[0])
        for number in range(60):
            step(np.array([number % 3]))
        state.complete()
        return state

    return take


def values_of(state: TrainState) -> dict[str, Tensor]:
    found = {f"averaged {name}": value for name, value in state.eval_model.state_dict().items()}
    optimizer = state.optimizer.state_dict()["state"]
    moments = {f"{name} {number}": value for number, each in optimizer.items() for name, value in each.items()}
    return found | moments | dict(state.objective.state_dict())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ema": 0.0},
        {"optimizer": "adam", "weight_decay": 0.0},
        {"clip_norm": None, "schedule": "constant", "lr": 0.003},
    ],
)
@pytest.mark.parametrize("most_steps", [7, 1000])
def test_steps_taken_just_in_time_are_the_dense_ones(
    take_steps: Callable[..., TrainState], monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], most_steps: int
) -> None:
    monkeypatch.setattr(just_in_time, "MOST_STEPS", most_steps)
    dense, found = take_steps(10**9, **changes), take_steps(0, **changes)
    assert dense.embedding_steps is None
    assert found.embedding_steps is not None
    assert dense.model.embedding is not None
    moments = dense.optimizer.state[dense.model.embedding.weight]["exp_avg_sq"]
    assert len(torch.unique(moments[:, 0])) > 500, "too few rows have had gradients of their own"
    expected = values_of(dense)
    for name, value in values_of(found).items():
        torch.testing.assert_close(value, expected[name], rtol=2e-4, atol=2e-6, msg=name)


@pytest.mark.parametrize(("scale", "tolerance"), [(1e-2, 2e-5), (1e-5, 2e-5), (1e-7, 5e-4)])  # epsilon is 1e-8
def test_rows_that_miss_hundreds_of_steps_move_as_by_dense_ones_in_double_precision(
    scale: float, tolerance: float
) -> None:
    """Row i has a gradient every 2^i steps; the second half of the training is from a loaded state."""
    steps, ema = 600, 0.99
    embedding = nn.Embedding(9, 4, _weight=torch.randn(9, 4, generator=torch.Generator().manual_seed(1)))
    exact = nn.Parameter(embedding.weight.detach().double())
    begin, average, exact_average = exact.detach().clone(), embedding.weight.detach().clone(), exact.detach().clone()
    optimizers = [torch.optim.AdamW([each], lr=0.003, fused=True) for each in (embedding.weight, exact)]
    schedules = [OneCycleLR(each, 0.003, total_steps=steps + 1, cycle_momentum=False) for each in optimizers]
    just_in_time = JustInTimeAdam(optimizers[0], embedding, average)
    generator = torch.Generator().manual_seed(2)
    for number in range(steps):
        words = torch.tensor([row for row in range(9) if number % 2**row == 0])
        gradient = torch.randn(len(words), 4, generator=generator) * scale
        with just_in_time.reading():
            embedding(words).backward(gradient)
        just_in_time.collect()
        just_in_time.step(1 - ema)
        exact.grad = torch.zeros_like(exact).index_copy_(0, words, gradient.double())
        for optimizer in optimizers:  # the first leaves the embedding alone
            optimizer.step()
        exact_average.lerp_(exact.detach(), 1 - ema)
        for schedule in schedules:
            schedule.step()
        if number == steps // 2:
            just_in_time.flush()
            optimizers[0].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    just_in_time.flush()
    for value, expected in ((embedding.weight.detach(), exact.detach()), (average, exact_average)):
        error, moved = (value - expected).abs().mean(), (expected - begin).abs().mean()
        assert error < tolerance * moved, (error, moved)
    assert not embedding.sparse
    assert not embedding._forward_pre_hooks


def test_decay_that_is_a_part_of_the_gradient_needs_dense_steps(take_steps: Callable[..., TrainState]) -> None:
    assert take_steps(0, optimizer="adam").embedding_steps is None


def test_an_interrupted_training_goes_on_to_the_same_weights(
    small_corpus: Corpora, small_model: ModelConfig, full_recipe: TrainConfig, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(just_in_time, "FEWEST_ROWS", 0)
    recipe = full_recipe.model_copy(update={"epochs": 4, "min_steps": 40, "language_model": 0.2, "optimizer": "adamw"})

    def train(on_epoch: Callable[..., None] = lambda record, speed: None, folder: Path | None = None) -> dict[str, Any]:
        torch.manual_seed(1)
        model = SpanClassifier("LSTM", small_model, WORDS, 5)
        rows = np.array([0, 1, 2]), np.array([], dtype=np.int64)  # none is held out, so the last epoch's weights stay
        task = load_task("sentiment")
        fit(model, small_corpus[0], *rows, recipe, task, seed=1, quiet=True, on_epoch=on_epoch, checkpoint=folder)
        return model.state_dict()

    def stop_after_two(record: EpochRecord, speed: float | None) -> None:
        if record.epoch == 2:
            raise KeyboardInterrupt

    whole = train()
    with pytest.raises(KeyboardInterrupt):
        train(stop_after_two, tmp_path)
    for name, value in train(folder=tmp_path).items():
        assert torch.equal(value, whole[name]), name
