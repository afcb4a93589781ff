import numpy as np
import pytest

from unroll.blend import blend_out_of_fold, find_known_labels, find_weights, mix
from unroll.metrics import log_loss


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
    weights = find_weights(stacked, labels)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    best = log_loss(mix(stacked, weights), labels)
    for other in np.random.default_rng(2).dirichlet([1, 1, 1], 200):
        assert best <= log_loss(mix(stacked, other), labels) + 1e-6


def test_a_fold_is_judged_by_weights_that_its_own_labels_did_not_touch(
    models: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    stacked, labels, folds = models
    _, blended = blend_out_of_fold(stacked, labels, folds)
    changed = labels.copy()
    changed[folds == 0] = (changed[folds == 0] + 1) % 3
    weights, after = blend_out_of_fold(stacked, changed, folds)
    assert (blended[folds == 0] == after[folds == 0]).all()
    assert (blended[folds != 0] != after[folds != 0]).any()
    np.testing.assert_allclose(weights, find_weights(stacked, changed))


def test_one_fold_gets_equal_weights(models: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    stacked, labels, _ = models
    weights, blended = blend_out_of_fold(stacked, labels, np.zeros(600, int))
    assert weights.tolist() == [1 / 3] * 3
    np.testing.assert_allclose(blended, stacked.mean(0))


def test_a_known_label_is_taken_only_where_the_training_part_agrees() -> None:
    train = ["good film", "bad film", "Good film", "odd", "odd"]
    known = find_known_labels(train, np.array([3, 1, 4, 2, 1]), ["bad film", "odd", "new", "good film", "Good film"])
    assert known.tolist() == [1, -1, -1, 3, 4]
