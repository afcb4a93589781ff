from pathlib import Path

import numpy as np
import pytest

from tests.support.definitions import define
from unroll.core.errors import UnrollError
from unroll.data.competition import Competition
from unroll.evaluation.ensembling import ensemble_out_of_fold, fit_calibration, fit_weights
from unroll.evaluation.metrics import score
from unroll.models.decisions import Decision
from unroll.models.ensemble import Ensemble, load_ensemble, mix, save_ensemble


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return score(TASK if probabilities.shape[1] == 3 else of(probabilities.shape[1]), probabilities, labels[:, None])[
        "log_loss"
    ]


def of(classes: int) -> Competition:
    return define([str(number) for number in range(classes)], "log_loss")


TASK = of(3)


@pytest.fixture
def models() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A good model, a bad one and noise on 600 rows in three folds."""
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 3, 600)
    right = np.eye(3)[labels]
    noise = generator.dirichlet([1, 1, 1], (3, 600))
    shares = np.array([0.6, 0.2, 0.0])[:, None, None]
    return shares * right + (1 - shares) * noise, labels, np.arange(600) % 3


def test_weights_are_a_mixture_that_no_other_mixture_beats(models: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    stacked, labels, _ = models
    weights = fit_weights(TASK, stacked, labels[:, None])
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    best = log_loss(mix(stacked, weights), labels)
    for other in np.random.default_rng(2).dirichlet([1, 1, 1], 200):
        assert best <= log_loss(mix(stacked, other), labels) + 1e-6


@pytest.mark.parametrize("calibrate", [False, True])
def test_each_fold_is_predicted_by_an_ensemble_fitted_without_its_labels(
    models: tuple[np.ndarray, np.ndarray, np.ndarray], calibrate: bool
) -> None:
    stacked, labels, folds = models
    lengths = np.arange(600) % 7
    _, ensembled = ensemble_out_of_fold(TASK, stacked, labels[:, None], folds, lengths, calibrate=calibrate)
    changed = labels.copy()
    changed[folds == 0] = (changed[folds == 0] + 1) % 3
    found, after = ensemble_out_of_fold(TASK, stacked, changed[:, None], folds, lengths, calibrate=calibrate)
    assert (ensembled[folds == 0] == after[folds == 0]).all()
    assert (ensembled[folds != 0] != after[folds != 0]).any()
    np.testing.assert_allclose(found.weights, fit_weights(TASK, stacked, changed[:, None]))
    assert (found.calibration is not None) == calibrate


def test_one_fold_gets_equal_weights(models: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    stacked, labels, _ = models
    found, ensembled = ensemble_out_of_fold(
        TASK, stacked, labels[:, None], np.zeros(600, int), np.ones(600, int), calibrate=True
    )
    assert found.weights.tolist() == [1 / 3] * 3
    assert found.calibration is None
    np.testing.assert_allclose(ensembled, stacked.mean(0))


@pytest.mark.parametrize("classes", [2, 4])
def test_a_calibration_learns_how_a_model_is_wrong_on_long_texts(classes: int) -> None:
    generator = np.random.default_rng(3)
    lengths = generator.integers(1, 40, 4000)
    right = generator.dirichlet(np.ones(classes), 4000)
    labels = np.array([generator.choice(classes, p=row) for row in right])
    tilt = np.zeros((4000, classes))
    tilt[:, 0] = np.log(lengths)  # it says the first class too often, the longer the text the more
    said = right * np.exp(tilt)
    said /= said.sum(1, keepdims=True)
    calibration = fit_calibration(said[:2000], lengths[:2000], labels[:2000])
    assert calibration is not None
    better = calibration.apply(said[2000:], lengths[2000:])
    np.testing.assert_allclose(better.sum(1), 1)
    assert log_loss(better, labels[2000:]) < log_loss(said[2000:], labels[2000:]) - 0.1
    assert log_loss(better, labels[2000:]) == pytest.approx(log_loss(right[2000:], labels[2000:]), abs=0.02)


def test_nothing_is_calibrated_where_a_class_has_no_row() -> None:
    assert fit_calibration(np.full((4, 3), 1 / 3), np.ones(4, int), np.array([0, 1, 0, 1])) is None


def test_an_ensemble_is_read_as_it_was_written(
    models: tuple[np.ndarray, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    stacked, labels, folds = models
    lengths = np.arange(600) % 7
    found, _ = ensemble_out_of_fold(TASK, stacked, labels[:, None], folds, lengths, calibrate=True)
    save_ensemble(tmp_path / "w.json", ["RNN", "LSTM", "GRU"], found, Decision.default(TASK), nested=True)
    weights, calibration, decision = load_ensemble(tmp_path / "w.json", TASK)
    assert decision == Decision("argmax")
    again = Ensemble(np.array([weights[cell] for cell in ("RNN", "LSTM", "GRU")]), calibration)
    assert (again.apply(stacked, lengths) == found.apply(stacked, lengths)).all()
    with pytest.raises(UnrollError, match="expected a weight for each cell"):
        load_ensemble(tmp_path / "w.json", of(4))


GOOD = '"weights": {"GRU": 1.0}, "calibration"'


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", "{", '{"weights": {"GRU": 0.5}, "calibration": null}',
     '{"weights": {"GRU": "x"}, "calibration": null}',
     '{"weights": {"GRU": 1.0}}', "{" + GOOD + ': {"weights": [[1]], "bias": [0]}}', "{" + GOOD + ": 3}"],
)  # fmt: skip
def test_a_damaged_ensemble_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "weights.json").write_text(content)
    with pytest.raises(UnrollError, match=r"weights\.json: "):
        load_ensemble(tmp_path / "weights.json", of(2))


def test_weights_of_numbers_have_the_least_squared_error() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(400, 2)) * [1, 100]
    stacked = np.stack([truth + np.array([1, 100]) * rng.normal(size=truth.shape) * noise for noise in (0.5, 0.5, 3.0)])
    task = define(["x", "y"], "mcrmse", "number")
    weights = fit_weights(task, stacked, truth)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    assert weights[2] < 0.05 < 0.3 < weights[0]
    alone = score(task, stacked[0], truth)["mcrmse"]
    assert score(task, mix(stacked, weights), truth)["mcrmse"] < 0.8 * alone


def test_weights_of_several_labels_make_them_most_likely() -> None:
    rng = np.random.default_rng(1)
    truth = (rng.random((300, 2)) < [0.5, 0.1]).astype(float)
    stacked = np.stack([0.8 * truth + 0.1, np.full(truth.shape, 0.5)])
    assert fit_weights(define(["a", "b"], "auc", "multilabel"), stacked, truth).round(2).tolist() == [1, 0]
