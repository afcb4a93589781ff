import numpy as np
import pytest

from unroll.evaluation.metrics import accuracy, confusion, group_accuracy, log_loss, macro_f1, score

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.5, 0.3]])
LABELS = np.array([0, 1, 1, 2])


def test_scores_by_hand() -> None:
    assert accuracy(PROBABILITIES, LABELS) == 0.5
    # class 0: precision 1/2, recall 1; class 1: 1/2 and 1/2; class 2 is never predicted
    assert macro_f1(PROBABILITIES, LABELS) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert log_loss(PROBABILITIES, LABELS) == pytest.approx(-np.log([0.7, 0.3, 0.8, 0.3]).mean())
    assert confusion(PROBABILITIES, LABELS).tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 0]]


def test_each_group_counts_once_in_group_accuracy() -> None:
    groups = np.array(["a", "a", "a", "b"])  # right, wrong, right; wrong
    assert group_accuracy(PROBABILITIES, LABELS, groups) == pytest.approx((2 / 3 + 0) / 2)


def test_a_class_that_is_nowhere_counts_in_macro_f1() -> None:
    assert macro_f1(np.eye(3)[[0, 1]], np.array([0, 1])) == pytest.approx(2 / 3)


def test_a_probability_of_zero_for_the_right_class_is_a_large_loss_and_no_infinity() -> None:
    assert 30 < log_loss(np.array([[0.0, 1.0]]), np.array([0])) < 40


def test_score_gives_the_three() -> None:
    assert score(PROBABILITIES, LABELS).keys() == {"accuracy", "macro_f1", "log_loss"}
