"""Where a model is wrong, on answers small enough to check by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unroll.evaluation import error_analysis as analysis

ROWS = pd.DataFrame(
    {
        "row_id": [10, 11, 12, 13, 14],
        "group": ["a", "a", "b", "b", "c"],
        "text": ["good", "not good", "Good !", "bad", "bad"],
        "label": [1, 0, 0, 0, 1],
    }
)
TABLE = pd.DataFrame(
    {
        "row_id": [12, 10, 11, 13, 14],
        "fold": [1, 0, 0, 1, 1],
        "no": [0.1, 0.2, 0.9, 0.7, 0.6],
        "yes": [0.9, 0.8, 0.1, 0.3, 0.4],
    }
)
ANSWERS = analysis.make_answers(ROWS, TABLE, ["no", "yes"])


def test_answers_stand_beside_their_rows() -> None:
    assert ANSWERS["text"].tolist() == ["Good !", "good", "not good", "bad", "bad"]
    assert ANSWERS["right"].tolist() == [False, True, True, True, False]
    assert ANSWERS["confidence"].tolist() == [0.9, 0.8, 0.9, 0.7, 0.6]
    assert ANSWERS["given"].tolist() == [0.1, 0.8, 0.9, 0.7, 0.4]


def test_accuracy_by_kind_counts_rows_and_leaves_out_kinds_without_any() -> None:
    kinds = np.array(["x", "y", "y", "x", "x"], dtype=object)
    table = analysis.accuracy_by(
        ANSWERS["right"].to_numpy(), kinds, ["z", "y", "x"], ANSWERS["group"].to_numpy(object), seed=1
    )
    assert table["kind"].tolist() == ["y", "x"]
    assert table["rows"].tolist() == [2, 3]
    np.testing.assert_allclose(table["accuracy"], [1, 1 / 3])
    assert (table["low"] <= table["accuracy"]).all()
    assert (table["high"] >= table["accuracy"]).all()


def test_the_interval_is_as_wide_as_the_groups_are_few() -> None:
    generator = np.random.default_rng(0)
    by_group = np.repeat(generator.random(200) < 0.6, 20)  # a group is right or wrong as a whole
    groups = np.repeat(np.arange(200), 20).astype(object)
    low, high = analysis.accuracy_interval(by_group, groups, seed=1)
    error = np.sqrt(0.6 * 0.4 / 200)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.2)
    low, high = analysis.accuracy_interval(by_group, np.arange(4000).astype(object), seed=1)
    assert high - low == pytest.approx(2 * 1.96 * error / np.sqrt(20), rel=0.2)


def test_a_model_that_is_right_as_often_as_it_is_sure_has_no_error() -> None:
    confidence = np.repeat([0.25, 0.75], 4)
    right = np.array([True, False, False, False, True, True, True, False])
    found = analysis.measure_reliability(confidence, right)
    assert found.error == pytest.approx(0)
    assert found.bins["rows"].tolist() == [4, 4]
    surer = analysis.measure_reliability(confidence + 0.1, right)
    assert surer.error == pytest.approx(0.1)
    assert analysis.measure_reliability(np.array([1.0]), np.array([True])).error == 0


def test_scores_by_class() -> None:
    scores = analysis.class_scores(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), ["a", "b", "c"])
    assert scores["rows"].tolist() == [2, 2, 0]
    np.testing.assert_allclose(scores["recall"], [0.5, 1, 0])
    np.testing.assert_allclose(scores["precision"], [1, 2 / 3, 0])


@given(st.lists(st.integers(1, 60), min_size=1))
def test_a_number_lies_in_the_range_that_names_it(values: list[int]) -> None:
    names, order = analysis.bin_counts(np.array(values), (1, 2, 3, 5, 10))
    assert order == ["1", "2", "3–4", "5–9", "10+"]
    for value, name in zip(values, names, strict=True):
        first, _, last = name.rstrip("+").partition("–")
        assert value >= int(first)
        assert name.endswith("+") or value <= int(last or first)


def test_shares_lie_in_their_ranges() -> None:
    names, order = analysis.bin_shares(np.array([0, 0.1, 0.25, 0.26, 0.5, 0.51, 1]))
    assert names.tolist() == ["none", "up to ¼", "up to ¼", "up to ½", "up to ½", "more", "more"]
    assert order == ["none", "up to ¼", "up to ½", "more"]


def test_negation_and_contrast_are_whole_words() -> None:
    rows = [["a", "nothing"], ["but"], ["nothingness", "butter"], ["But", "n't"], []]
    assert analysis.find_turns(rows)[0].tolist() == ["negation", "contrast", "neither", "both", "neither"]


def test_depth_counts_the_phrases_that_hold_one() -> None:
    sequence, start, end = np.array([0, 1, 0, 0, 1, 0]), np.array([0, 0, 1, 1, 0, 0]), np.array([4, 2, 4, 2, 2, 1])
    assert analysis.measure_depths(sequence, start, end).tolist() == [0, 0, 1, 2, 0, 1]


def test_confusions_mistakes_and_doubtful_labels() -> None:
    names = ["no", "yes"]
    confusions = analysis.list_confusions(ANSWERS, names, most=5, examples=2)
    pairs = [(line["actual"], line["predicted"], line["rows"]) for line in confusions]
    assert pairs == [("no", "yes", 1), ("yes", "no", 1)]
    assert confusions[0]["share"] == pytest.approx(1 / 3)
    assert confusions[0]["examples"] == ["Good !"]
    mistakes = analysis.list_mistakes(ANSWERS, names, most=5)
    assert [line["text"] for line in mistakes] == ["Good !", "bad"]
    doubtful = analysis.list_doubtful_labels(ANSWERS, ROWS, names, most=5)
    assert [(line["text"], line["actual"], line["expected"], line["twin"]) for line in doubtful] == [
        ("Good !", "no", "yes", "good"),
        ("bad", "yes", "no", "bad"),
    ]
    assert analysis.list_doubtful_labels(ANSWERS, ROWS.iloc[:2], names, most=5)[0]["text"] == "Good !"
    assert len(analysis.list_doubtful_labels(ANSWERS, ROWS.iloc[:2], names, most=5)) == 1
