from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.definitions import load_task
from unroll.core.errors import UnrollError
from unroll.core.settings import ModelConfig, TrainConfig
from unroll.models.inference import predict
from unroll.models.span_classifier import CELLS, SpanClassifier
from unroll.text.corpus import Corpus
from unroll.text.vocabulary import UNKNOWN_ID, Vocabulary
from unroll.training.fit import fit
from unroll.training.optimization import drop_words, word_drop_rates
from unroll.training.state import EpochRecord, History

TRAIN, VALID = np.array([0, 1]), np.array([2])
TASK = load_task("sentiment")
Small = tuple[Corpus, Vocabulary]


@pytest.fixture
def train(small_corpus: Small, small_model: ModelConfig) -> Callable[..., tuple[SpanClassifier, History]]:
    corpus, vocabulary = small_corpus

    def run(config: TrainConfig, cell: str = "LSTM", seed: int = 1, **more: object) -> tuple[SpanClassifier, History]:
        torch.manual_seed(seed)
        model = SpanClassifier(cell, small_model, len(vocabulary), 5)
        history = fit(model, corpus, TRAIN, VALID, config, TASK, seed=seed, quiet=True, **more)  # type: ignore[arg-type]
        return model, history

    return run


Train = Callable[..., tuple[SpanClassifier, History]]


def assert_equal_weights(one: SpanClassifier, other: SpanClassifier) -> None:
    for (name, weight), expected in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(weight, expected), name


@pytest.mark.parametrize("cell", CELLS)
def test_two_runs_are_equal_bit_for_bit_and_another_seed_is_not(
    train: Train, full_recipe: TrainConfig, cell: str
) -> None:
    one, history = train(full_recipe, cell)
    torch.rand(7)  # what was drawn before does not matter
    two, again = train(full_recipe, cell)
    assert_equal_weights(one, two)
    assert history == again
    other, _ = train(full_recipe, cell, seed=2)
    with pytest.raises(AssertionError):
        assert_equal_weights(one, other)


def test_an_interrupted_training_goes_on_to_the_same_weights(
    train: Train, full_recipe: TrainConfig, tmp_path: Path
) -> None:
    recipe = full_recipe.model_copy(update={"epochs": 5})
    whole, history = train(recipe)

    def stop_after_two(record: EpochRecord, spans_per_second: float | None) -> None:
        if record.epoch == 2:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "checkpoints"
    with pytest.raises(KeyboardInterrupt):
        train(recipe, on_epoch=stop_after_two, checkpoint=checkpoint)
    told: list[tuple[int, bool]] = []
    resumed, resumed_history = train(
        recipe, checkpoint=checkpoint, on_epoch=lambda record, speed: told.append((record.epoch, speed is None))
    )
    assert told == [(1, True), (2, True), (3, False), (4, False), (5, False)]
    assert resumed_history == history
    assert_equal_weights(whole, resumed)


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_taken(
    train: Train, full_recipe: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = full_recipe.model_copy(update={"epochs": 5})
    whole, history = train(recipe)

    def stop_after_four(record: EpochRecord, spans_per_second: float | None) -> None:
        if record.epoch == 4:
            raise KeyboardInterrupt

    def go_on() -> list[int]:
        told: list[tuple[int, bool]] = []
        resumed, resumed_history = train(
            recipe, checkpoint=tmp_path, on_epoch=lambda record, speed: told.append((record.epoch, speed is None))
        )
        assert resumed_history == history
        assert_equal_weights(whole, resumed)
        return [epoch for epoch, is_repeated in told if not is_repeated]

    with pytest.raises(KeyboardInterrupt):
        train(recipe, checkpoint=tmp_path, on_epoch=stop_after_four)
    kept = sorted(tmp_path.iterdir())
    assert [path.name for path in kept] == ["epoch-000003.pt", "epoch-000004.pt"]
    content = bytearray(kept[1].read_bytes())
    content[len(content) // 2] ^= 1
    kept[1].write_bytes(content)
    assert go_on() == [4, 5]
    assert f"warning: {kept[1]}: damaged" in capsys.readouterr().err

    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:500])
    assert go_on() == [1, 2, 3, 4, 5]
    assert capsys.readouterr().err.count(": damaged; ") == 2


@pytest.mark.parametrize("is_captured", [False, True])
def test_running_out_of_memory_names_the_batch_size_to_lower(
    train: Train, plain_recipe: TrainConfig, monkeypatch: pytest.MonkeyPatch, is_captured: bool
) -> None:
    def fail(*_: object) -> None:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:
            if is_captured:  # whose end raises an error of its own
                raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    monkeypatch.setattr(SpanClassifier, "encode", fail)
    with pytest.raises(
        UnrollError,
        match=r"^mood: out of memory at a batch of 2 sequences of 4 tokens; lower train.batch_size \(now 4\), ",
    ):
        train(plain_recipe, title="mood")


def test_the_weights_kept_are_those_of_the_best_epoch(train: Train, plain_recipe: TrainConfig, tmp_path: Path) -> None:
    model, history = train(plain_recipe.model_copy(update={"epochs": 12, "lr": 0.05}))
    accuracies = [record.scores["accuracy"] for record in history.epochs]
    assert history.best_epoch == accuracies.index(max(accuracies)) + 1 < 12, (
        "the test needs a best epoch before the last"
    )
    shorter, _ = train(plain_recipe.model_copy(update={"epochs": history.best_epoch, "lr": 0.05}))
    assert_equal_weights(model, shorter)


def test_patience_ends_a_training_early(train: Train, plain_recipe: TrainConfig) -> None:
    _, history = train(plain_recipe.model_copy(update={"epochs": 50, "patience": 3, "lr": 0.05}))
    assert len(history.epochs) == history.best_epoch + 3 < 50


def test_a_loss_that_is_not_a_number_stops_with_where(train: Train, plain_recipe: TrainConfig) -> None:
    with pytest.raises(UnrollError, match=r"the loss is nan at epoch \d+, batch \d+; lower train.lr \(now 1e\+20\)"):
        train(plain_recipe.model_copy(update={"epochs": 30, "lr": 1e20, "clip_norm": None}), cell="RNN")


def test_numbers_as_small_as_vanishing_gradients_are_zero_in_training_alone(
    small_corpus: Small, small_model: ModelConfig, plain_recipe: TrainConfig
) -> None:
    corpus, vocabulary = small_corpus
    model, products = SpanClassifier("LSTM", small_model, len(vocabulary), 5), {True: set[float](), False: set[float]()}

    def note(module: torch.nn.Module, *_: object) -> None:
        products[module.training].add(float(torch.tensor(1e-30) * 1e-10))

    assert model.embedding is not None
    model.embedding.register_forward_hook(note)
    fit(model, corpus, TRAIN, VALID, plain_recipe, TASK, seed=1, quiet=True)
    assert products[True] == {0.0}
    assert min(products[False]) > 0


def test_a_one_cycle_rate_rises_and_falls_to_nothing(train: Train, plain_recipe: TrainConfig) -> None:
    _, history = train(plain_recipe.model_copy(update={"epochs": 10, "schedule": "one_cycle", "warmup": 0.3}))
    rates = [record.lr for record in history.epochs]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert max(rates) == pytest.approx(0.01, rel=0.05)
    assert rates[-1] < 0.0005


def test_weights_averaged_over_steps_differ_from_the_last_ones(train: Train, plain_recipe: TrainConfig) -> None:
    last, _ = train(plain_recipe.model_copy(update={"epochs": 1, "batch_size": 1}))
    averaged, _ = train(plain_recipe.model_copy(update={"epochs": 1, "batch_size": 1, "ema": 0.5}))
    with pytest.raises(AssertionError):
        assert_equal_weights(last, averaged)


def test_a_model_trained_in_bf16_predicts_in_fp32(
    train: Train, plain_recipe: TrainConfig, small_corpus: Small, small_model: ModelConfig
) -> None:
    corpus, vocabulary = small_corpus
    model, _ = train(plain_recipe.model_copy(update={"precision": "bf16"}))
    rebuilt = SpanClassifier("LSTM", small_model, len(vocabulary), 5)
    rebuilt.load_state_dict(model.state_dict())
    assert (predict(model, corpus, VALID) == predict(rebuilt, corpus, VALID)).all()


def test_bf16_trains(train: Train, plain_recipe: TrainConfig) -> None:
    _, history = train(plain_recipe.model_copy(update={"precision": "bf16", "epochs": 40}))
    assert history.epochs[-1].loss < history.epochs[0].loss / 1.5


def test_rare_words_are_dropped_more_often(plain_recipe: TrainConfig) -> None:
    recipe = plain_recipe.model_copy(update={"word_dropout": 0.1, "rare_word_dropout": 0.5})
    rates = word_drop_rates(torch.tensor([0, 1, 4, 0]), recipe)
    assert rates[1].item() == pytest.approx(1 - 0.9 * (1 - 0.5 / 1.5))
    assert rates[2].item() == pytest.approx(1 - 0.9 * (1 - 0.5 / 4.5))
    tokens = torch.tensor([[1, 2]]).expand(4000, 2)
    dropped = (drop_words(tokens, rates) == UNKNOWN_ID).float().mean(0)
    torch.testing.assert_close(dropped, rates[[1, 2]], rtol=0, atol=0.03)
    assert (drop_words(tokens, word_drop_rates(torch.tensor([0, 1, 1, 0]), plain_recipe)) == tokens).all()
