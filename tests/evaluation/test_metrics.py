import numpy as np
import pytest
from sklearn import metrics as sk

from tests.support.definitions import define
from unroll.data.competition import METRICS
from unroll.evaluation.metrics import FUNCTIONS, USUAL, mean_by_group, score, sign_of

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.5, 0.3]])
LABELS = np.array([[0], [1], [1], [2]])
TASK = define(["a", "b", "c"], "accuracy")


def test_every_metric_that_a_definition_may_name_is_there() -> None:
    assert METRICS.keys() == FUNCTIONS.keys()
    assert all(kind in METRICS[name] for kind, names in USUAL.items() for name in names)


def test_scores_by_hand() -> None:
    # class 0: precision 1/2, recall 1; class 1: 1/2 and 1/2; class 2 is never predicted
    expected = {"accuracy": 0.5, "macro_f1": (2 / 3 + 1 / 2 + 0) / 3, "log_loss": -np.log([0.7, 0.3, 0.8, 0.3]).mean()}
    assert score(TASK, PROBABILITIES, LABELS) == pytest.approx(expected)


def test_each_group_counts_once_in_group_accuracy() -> None:
    groups = np.array(["a", "a", "a", "b"])  # correct, wrong, correct; wrong
    assert mean_by_group(TASK, PROBABILITIES, LABELS, groups) == pytest.approx((2 / 3 + 0) / 2)


def test_a_class_without_rows_counts_in_macro_f1() -> None:
    assert score(TASK, np.eye(3)[[0, 1]], np.array([[0], [1]]))["macro_f1"] == pytest.approx(2 / 3)


def test_a_probability_of_zero_for_the_label_is_a_large_loss_but_finite() -> None:
    task = define(["a", "b"], "log_loss")
    assert 30 < score(task, np.array([[0.0, 1.0]]), np.array([[0]]))["log_loss"] < 40


def test_two_classes_have_a_positive_one() -> None:
    probabilities, truth = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.8, 0.2]]), np.array([[0], [1], [0], [1]])
    for positive, f1 in (("no", 0.5), ("yes", 0.5)):
        task = define(["no", "yes"], "f1", positive=positive)
        assert score(task, probabilities, truth)["f1"] == pytest.approx(f1)
    for metric, expected in (("auc", 0.5), ("mcc", 0.0)):
        assert score(define(["no", "yes"], metric), probabilities, truth)[metric] == pytest.approx(expected)
    lopsided = np.array([[0], [1], [1], [1]])
    assert score(define(["no", "yes"], "auc", positive="no"), probabilities, lopsided)["auc"] == 1


def test_several_labels_are_scored_by_column() -> None:
    rng = np.random.default_rng(1)
    truth, found = (rng.random((50, 3)) < 0.4).astype(float), rng.random((50, 3))
    task = define(["a", "b", "c"], "auc", "multilabel")
    scores = score(task, found, truth)
    assert scores["auc"] == pytest.approx(sk.roc_auc_score(truth, found, average="macro"))
    assert scores["macro_f1"] == pytest.approx(sk.f1_score(truth, found >= 0.5, average="macro"))
    assert scores["log_loss"] == pytest.approx(np.mean([sk.log_loss(truth[:, k], found[:, k]) for k in range(3)]))
    truth[:, 0] = 0
    assert score(task, found, truth)["auc"] == pytest.approx(sk.roc_auc_score(truth[:, 1:], found[:, 1:]))


def test_numbers_and_ordered_labels() -> None:
    truth, found = np.array([[1.0, 10], [2, 20], [4, 30]]), np.array([[1.0, 10], [2, 26], [1, 30]])
    task = define(["a", "b"], "mcrmse", "number")
    expected = {"rmse": np.sqrt(45 / 6), "mcrmse": (np.sqrt(3) + np.sqrt(12)) / 2, "mae": 9 / 6}
    scores = score(task, found, truth)
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    assert score(define(["a"], "pearson", "number"), np.ones((3, 1)), truth[:, :1])["pearson"] == 0, "of a constant"
    graded = define(["2", "4", "8"], "rmse", "ordinal")
    levels = score(graded, np.array([[0.5, 0.5, 0], [0, 0, 1]]), np.array([[0], [2]]))
    assert levels["rmse"] == pytest.approx(np.sqrt(0.5)), "the expected level is 3, and 2 is right"
    assert levels["quadratic_kappa"] == 1
    assert [sign_of(name) for name in ("auc", "log_loss", "rmse")] == [1, -1, -1]
