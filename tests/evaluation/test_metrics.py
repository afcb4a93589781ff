import numpy as np
import pytest

from unroll.evaluation.metrics import group_accuracy, score

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.5, 0.3]])
LABELS = np.array([0, 1, 1, 2])


def test_scores_by_hand() -> None:
    # class 0: precision 1/2, recall 1; class 1: 1/2 and 1/2; class 2 is never predicted
    expected = {"accuracy": 0.5, "macro_f1": (2 / 3 + 1 / 2 + 0) / 3, "log_loss": -np.log([0.7, 0.3, 0.8, 0.3]).mean()}
    assert score(PROBABILITIES, LABELS) == pytest.approx(expected)


def test_each_group_counts_once_in_group_accuracy() -> None:
    groups = np.array(["a", "a", "a", "b"])  # correct, wrong, correct; wrong
    assert group_accuracy(PROBABILITIES, LABELS, groups) == pytest.approx((2 / 3 + 0) / 2)


def test_a_class_without_rows_counts_in_macro_f1() -> None:
    assert score(np.eye(3)[[0, 1]], np.array([0, 1]))["macro_f1"] == pytest.approx(2 / 3)


def test_a_probability_of_zero_for_the_label_is_a_large_loss_but_finite() -> None:
    assert 30 < score(np.array([[0.0, 1.0]]), np.array([0]))["log_loss"] < 40
