"""Decisions fitted out of fold, and judged on rows that they were not fitted on."""

import numpy as np
import pytest

from tests.support.definitions import define
from unroll.evaluation.decisions import decide_nested, fit_decision
from unroll.evaluation.metrics import score
from unroll.models.decisions import Decision

RNG = np.random.default_rng(1)
RARE = (RNG.random((2000, 1)) < 0.1).astype(float)
SHY = np.clip(0.1 + 0.25 * RARE + 0.08 * RNG.normal(size=RARE.shape), 0.01, 0.99)  # never sure of the rare class
TWO = np.hstack([1 - SHY, SHY])


@pytest.mark.parametrize("metric", ["f1", "macro_f1", "mcc"])
def test_a_threshold_is_found_for_a_rare_class(metric: str) -> None:
    task = define(["no", "yes"], metric)
    plain = score(task, TWO, RARE)[metric]
    found = fit_decision(task, TWO, RARE)
    assert found.rule == "threshold"
    assert 0.15 < found.values[0] < 0.35
    assert score(task, TWO, RARE, found.apply(TWO, task))[metric] > plain + 0.2
    groups = np.arange(2000) // 2
    nested = decide_nested(task, TWO, RARE, np.zeros(2000, int), groups)
    assert score(task, TWO, RARE, nested)[metric] > plain + 0.2


def test_each_half_is_decided_without_its_own_truth() -> None:
    task, folds = define(["no", "yes"], "f1"), np.arange(2000) % 2
    changed = np.where(folds[:, None] == 0, 1 - RARE, RARE)
    first, second = (decide_nested(task, TWO, truth, folds, folds) for truth in (RARE, changed))
    assert (first[folds == 0] == second[folds == 0]).all()
    assert (first[folds == 1] != second[folds == 1]).any()


def test_what_needs_no_decision_gets_none() -> None:
    for task in (define(["no", "yes"], "log_loss"), define(["no", "yes"], "accuracy"), define(list("abc"), "macro_f1")):
        assert fit_decision(task, TWO, RARE) == Decision("argmax")
    assert fit_decision(define(["x"], "rmse", "number"), SHY, RARE) == Decision("none")


def test_each_label_has_a_threshold_of_its_own() -> None:
    task = define(["a", "b"], "macro_f1", "multilabel")
    truth = np.hstack([RARE, 1 - RARE])
    predictions = np.hstack([SHY, 1 - SHY])
    found = fit_decision(task, predictions, truth)
    assert found.values[0] < 0.35
    assert score(task, predictions, truth, found.apply(predictions, task))["macro_f1"] > 0.8
    assert score(task, predictions, truth)["macro_f1"] < 0.6


def test_cut_points_of_ordered_labels() -> None:
    task = define(["1", "2", "3"], "quadratic_kappa", "ordinal")
    truth = RNG.integers(0, 3, (900, 1)).astype(float)
    towards = np.eye(3)[truth[:, 0].astype(int)]
    predictions = 0.3 * towards + 0.7 * np.array([0.1, 0.2, 0.7])  # too high, all of them
    found = fit_decision(task, predictions, truth)
    assert found.rule == "cuts"
    assert score(task, predictions, truth, found.apply(predictions, task))["quadratic_kappa"] > 0.99
    assert score(task, predictions, truth)["quadratic_kappa"] < 0.9
    assert Decision.of_content({"rule": "cuts", "values": list(found.values)}, task) == found
    with pytest.raises(ValueError, match="expected 2 values of the rule cuts"):
        Decision.of_content({"rule": "cuts", "values": [1.0]}, task)
