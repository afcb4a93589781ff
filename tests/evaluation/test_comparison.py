"""Rows that models share, where their predictions differ, and which model is promoted."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from tests.support.definitions import define
from unroll.evaluation.comparison import (
    choose_best,
    decide_promotion,
    find_disagreement,
    join_predictions,
    score_columns,
    score_interval,
    score_table,
    shared_rows,
)  # fmt: skip

TASK = define(["x", "y"], "accuracy")


def table(rows: Sequence[tuple[int, str, str, int, float]]) -> pd.DataFrame:
    """Predictions from row id, group, text, label and the probability of the second class."""
    made = pd.DataFrame(rows, columns=["row_id", "group", "text", "true:label", "predicted:y"])
    ids = made["row_id"].astype(str)
    return made.assign(id=ids, fold=0, **{"predicted:x": 1 - made["predicted:y"]})


def with_second(table: pd.DataFrame, values: Sequence[float]) -> pd.DataFrame:
    """Return predictions with other probabilities of the second class."""
    second = np.array(values)
    return table.assign(**{"predicted:y": second, "predicted:x": 1 - second})


FIRST = table([(1, "1", "a b", 1, 0.9), (2, "1", "a", 0, 0.2), (3, "2", "b", 1, 0.4), (4, "2", "c", 0, 0.7)])


def test_shared_rows_are_the_same_row_wherever_it_stands() -> None:
    other = FIRST.iloc[[3, 1, 0]].reset_index(drop=True)
    left, right = shared_rows([FIRST, other], by_id=True)
    assert left.tolist() == [0, 1, 3]
    assert right.tolist() == [2, 1, 0]


@pytest.mark.parametrize(("column", "value"), [("id", "9"), ("group", "7"), ("text", "z"), ("true:label", 0)])
def test_a_row_that_differs_in_anything_is_another_one(column: str, value: object) -> None:
    other = FIRST.assign(**{column: [value, *FIRST[column].tolist()[1:]]})
    assert shared_rows([FIRST, other], by_id=True)[0].tolist() == [1, 2, 3]


def test_ids_that_are_places_in_a_file_do_not_matter_and_equal_rows_are_told_apart() -> None:
    first = table([(1, "a", "A", 0, 0.1), (2, "a", "A", 0, 0.1), (3, "b", "B", 1, 0.9)])
    other = table([(5, "a", "A", 0, 0.1), (6, "b", "B", 1, 0.9)])
    left, right = shared_rows([first, other], by_id=False)
    assert (left.tolist(), right.tolist()) == ([0, 2], [0, 1])
    assert len(shared_rows([first, other], by_id=True)[0]) == 0


def test_three_tables_share_what_stands_in_all_of_them() -> None:
    found = shared_rows([FIRST, FIRST.iloc[1:], FIRST.iloc[:3]], by_id=True)
    assert [rows.tolist() for rows in found] == [[1, 2], [0, 1], [1, 2]]


def test_predictions_are_joined_to_their_rows() -> None:
    rows = FIRST[["row_id", "id", "group", "text", "true:label"]].iloc[::-1]
    joined = join_predictions(FIRST[["row_id", "fold", "predicted:x", "predicted:y"]], rows)
    pd.testing.assert_frame_equal(joined[FIRST.columns], FIRST)


def test_where_two_models_differ() -> None:
    second = with_second(FIRST, [0.8, 0.55, 0.6, 0.6])
    found = find_disagreement(FIRST, second, TASK, examples=5, seed=1)
    assert (found.rows, found.only_first, found.only_second) == (2, 1, 1)
    assert [(example.text, example.label, example.first, example.second) for example in found.examples] == [
        ("b", 1, 0, 1), ("a", 0, 0, 1),
    ]  # fmt: skip
    assert found.difference.score == 0
    assert len(find_disagreement(FIRST, second, TASK, examples=1, seed=1).examples) == 1


def test_scores_are_those_of_the_definition() -> None:
    scores = score_table(FIRST, TASK)
    assert scores["accuracy"] == 0.5
    assert scores["group_accuracy"] == 0.5
    assert scores["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.4, 0.3]).mean())


def test_the_ensemble_is_best_where_it_is_as_good() -> None:
    assert choose_best({"LSTM": 0.7, "ensemble": 0.7, "GRU": 0.6}, "accuracy") == "ensemble"
    assert choose_best({"LSTM": 0.8, "ensemble": 0.7}, "accuracy") == "LSTM"
    assert choose_best({"LSTM": 0.8, "ensemble": 0.7, "RNN": float("nan")}, "log_loss") == "ensemble"


def decide_on(new: pd.DataFrame, old: pd.DataFrame | None, old_is_sample: bool = False) -> tuple[bool, str]:
    return decide_promotion(new, old, TASK, old_is_sample=old_is_sample)


def test_a_champion_goes_to_a_better_one_on_the_rows_of_both() -> None:
    better = with_second(FIRST, [0.9, 0.2, 0.6, 0.7])
    assert decide_on(better, FIRST) == (
        True, "accuracy 0.7500 against 0.5000 on the 4 out-of-fold rows of both"
    )  # fmt: skip
    assert not decide_on(FIRST, better)[0]
    assert not decide_on(FIRST, FIRST)[0], "as good is not better"
    # On its own rows the new one has all right; on the rows of both it is no better.
    more = pd.concat([FIRST, better.iloc[:3].assign(id=["7", "8", "9"])], ignore_index=True)
    assert decide_on(more, FIRST) == (False, "accuracy 0.5000 against 0.5000 on the 4 out-of-fold rows of both")


def test_a_champion_stays_where_scores_do_not_compare() -> None:
    other = FIRST.assign(id=["11", "12", "13", "4"])
    moved, why = decide_on(other, FIRST)
    assert not moved
    assert "the two share 1 of 4 out-of-fold rows" in why
    assert decide_on(FIRST, None)[0] is False
    assert decide_on(FIRST, FIRST.drop(columns="predicted:x"))[0] is False


def test_a_champion_of_the_sample_goes_to_any_model_of_real_data() -> None:
    assert decide_on(FIRST, FIRST, old_is_sample=True) == (
        True,
        "the champion was trained on the sample, this model was not",
    )


def test_a_champion_goes_to_the_smaller_of_two_losses() -> None:
    task = define(["x", "y"], "log_loss")
    better = with_second(FIRST, [0.95, 0.1, 0.5, 0.6])
    moved, why = decide_promotion(better, FIRST, task, old_is_sample=False)
    assert moved, why
    assert decide_promotion(FIRST, better, task, old_is_sample=False)[0] is False


def numbers(noise: float) -> pd.DataFrame:
    truth = np.random.default_rng(1).normal(size=(60, 2))
    found = truth + noise * np.random.default_rng(2).normal(size=truth.shape)
    columns = {"true:a": truth[:, 0], "true:b": truth[:, 1], "predicted:a": found[:, 0], "predicted:b": found[:, 1]}
    texts = [f"text {number}" for number in range(60)]
    return pd.DataFrame(
        {"row_id": range(60), "id": map(str, range(60)), "fold": 0, "group": texts, "text": texts, **columns}
    )


def test_numbers_are_compared_by_their_metric() -> None:
    task, first, second = define(["a", "b"], "mcrmse", "number"), numbers(0.5), numbers(0.1)
    found = find_disagreement(first, second, task, examples=5, seed=1)
    assert found.difference.score == pytest.approx(
        score_table(second, task)["mcrmse"] - score_table(first, task)["mcrmse"]
    )
    assert found.difference.high < 0
    low, high = score_interval(first, task, seed=1)
    assert low < score_table(first, task)["mcrmse"] < high
    by_column = score_columns(first, task)
    assert by_column["column"].tolist() == ["a", "b"]
    assert by_column["rmse"].mean() == pytest.approx(score_table(first, task)["mcrmse"])
