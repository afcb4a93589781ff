"""Where a model is wrong, on predictions small enough to check by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.definitions import define
from unroll.evaluation import error_analysis as analysis
from unroll.evaluation.comparison import join_predictions

ROWS = pd.DataFrame(
    {
        "row_id": [10, 11, 12, 13, 14],
        "id": ["10", "11", "12", "13", "14"],
        "group": ["a", "a", "b", "b", "c"],
        "text": ["good", "not good", "Good !", "bad", "bad"],
        "true:label": [1.0, 0.0, 0.0, 0.0, 1.0],
    }
)
TABLE = pd.DataFrame(
    {
        "row_id": [12, 10, 11, 13, 14],
        "fold": [1, 0, 0, 1, 1],
        "predicted:no": [0.1, 0.2, 0.9, 0.7, 0.6],
        "predicted:yes": [0.9, 0.8, 0.1, 0.3, 0.4],
    }
)
PREDICTIONS = analysis.add_outcomes(join_predictions(TABLE, ROWS), define(["no", "yes"], "accuracy"))
LABELLED = ROWS.assign(label=ROWS["true:label"].astype(int))


def test_outcomes_stand_beside_their_rows() -> None:
    assert PREDICTIONS["text"].tolist() == ["Good !", "good", "not good", "bad", "bad"]
    assert PREDICTIONS["predicted"].tolist() == [1, 1, 0, 0, 0]
    assert PREDICTIONS["correct"].tolist() == [False, True, True, True, False]
    assert PREDICTIONS["confidence"].tolist() == [0.9, 0.8, 0.9, 0.7, 0.6]
    assert PREDICTIONS["label_probability"].tolist() == [0.1, 0.8, 0.9, 0.7, 0.4]


def test_the_calibration_error_is_the_distance_of_confidence_and_accuracy() -> None:
    confidence = np.repeat([0.25, 0.75], 4)
    correct = np.array([True, False, False, False, True, True, True, False])
    assert analysis.calibration_error(confidence, correct) == pytest.approx(0)
    assert analysis.calibration_error(confidence + 0.1, correct) == pytest.approx(0.1)
    assert analysis.calibration_error(np.array([1.0]), np.array([True])) == 0


@given(st.lists(st.integers(1, 60), min_size=1))
def test_a_number_lies_in_the_range_of_its_name(values: list[int]) -> None:
    ranges = analysis.by_range(np.array(values), (1, 2, 3, 5, 10))
    assert ranges.categories.tolist() == ["1", "2", "3–4", "5–9", "10+"]
    for value, name in zip(values, map(str, ranges), strict=True):
        first, _, last = name.rstrip("+").partition("–")
        assert value >= int(first)
        assert name.endswith("+") or value <= int(last or first)


def test_negation_and_contrast_are_whole_words() -> None:
    rows = [["a", "nothing"], ["but"], ["nothingness", "butter"], ["But", "n't"], []]
    assert list(analysis.by_turn(rows)) == ["negation", "contrast", "neither", "both", "neither"]


SPANS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(1, 5)), min_size=1)


@given(SPANS)
def test_depth_counts_the_longer_spans_that_contain_one(drawn: list[tuple[int, int, int]]) -> None:
    spans = [(sequence, start, start + length) for sequence, start, length in drawn]
    counts = [
        sum(o == sequence and left <= start and end <= right and right - left > end - start for o, left, right in spans)
        for sequence, start, end in spans
    ]
    table = pd.DataFrame(spans, columns=["sequence", "start", "end"])
    assert analysis.measure_depths(table).tolist() == counts


def test_depths_of_many_spans_of_one_sequence() -> None:
    """A count of each pair would take ten thousand million steps."""
    start = np.random.default_rng(1).integers(0, 1000, 100_000)
    table = pd.DataFrame({"sequence": 0, "start": start, "end": 1000 + start % 7})
    assert analysis.measure_depths(table).min() == 0


def test_confusions_mistakes_and_doubtful_labels() -> None:
    names = ["no", "yes"]
    confusions = analysis.list_confusions(PREDICTIONS, names, most=5, examples=2)
    assert list(confusions) == ["label", "predicted", "rows", "share", "examples"]
    assert confusions.to_numpy().tolist() == [
        ["no", "yes", 1, pytest.approx(1 / 3), "Good !"],
        ["yes", "no", 1, 0.5, "bad"],
    ]
    assert analysis.list_mistakes(PREDICTIONS, names, most=5)["text"].tolist() == ["Good !", "bad"]
    doubtful = analysis.list_doubtful_labels(PREDICTIONS, LABELLED, names, most=5)
    assert doubtful[["text", "label", "predicted", "same_words"]].to_numpy().tolist() == [
        ["Good !", "no", "yes", "good"],
        ["bad", "yes", "no", "bad"],
    ]
    assert analysis.list_doubtful_labels(PREDICTIONS, LABELLED.iloc[:2], names, most=5)["text"].tolist() == ["Good !"]


def test_a_perfect_model_has_no_errors() -> None:
    correct = PREDICTIONS[PREDICTIONS["correct"]]
    assert analysis.list_confusions(correct, ["no", "yes"], most=5, examples=2).empty
    assert analysis.list_mistakes(correct, ["no", "yes"], most=5).empty
    assert analysis.list_doubtful_labels(correct, LABELLED, ["no", "yes"], most=5).empty
