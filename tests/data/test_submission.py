from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.support.definitions import load_task
from unroll.core.errors import UnrollError
from unroll.data.competition import Competition
from unroll.data.submission import check_submission, find_known_truth, make_submission, read_sample

TASK = load_task("sentiment")
IDS = pd.Series(["4", "5"])
SAMPLE = pd.DataFrame({"PhraseId": ["5", "4"], "Sentiment": ["2", "2"]})


def test_a_submission_has_the_samples_rows_in_its_order() -> None:
    predictions = np.eye(5)[[0, 4]]
    made = make_submission(TASK, SAMPLE, IDS, predictions, np.array([[0.0], [4.0]]))
    assert made.to_csv(index=False) == "PhraseId,Sentiment\n5,4\n4,0\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("PhraseId,Sentiment\n5,2\n4,0\n", None),
        ("Sentiment,PhraseId\n2,5\n", "line 1: found the columns Sentiment, PhraseId, expected PhraseId, Sentiment"),
        ("PhraseId,Sentiment\n5,2\n", "found 1 rows, expected 2 as in the sample submission"),
        ("PhraseId,Sentiment\n4,2\n5,0\n", "line 2: PhraseId: found '4', expected what the sample submission has"),
        ("PhraseId,Sentiment\n5,2\n4,\n", "line 3: Sentiment: found '', expected one of 0, 1, 2, 3, 4"),
    ],
)
def test_a_file_is_checked_before_it_is_sent(tmp_path: Path, content: str, told: str | None) -> None:
    file = tmp_path / "s.csv"
    file.write_text(content)
    if told is None:
        assert check_submission(TASK, file, SAMPLE)["Sentiment"].tolist() == ["2", "0"]
        return
    with pytest.raises(UnrollError) as error:
        check_submission(TASK, file, SAMPLE)
    assert told in str(error.value)


def define(**changed: Any) -> Competition:
    target = {"columns": ["author"], "kind": "classes", "labels": ["A", "B"]}
    content = {
        "name": "x",
        "title": "x",
        "folder": "x",
        "train": "t.csv",
        "test": "u.csv",
        "text": ["text"],
        "id": "id",
    }
    return Competition.model_validate({**content, "target": target, "metric": "log_loss", **changed})


GRADES = {"columns": ["s"], "kind": "ordinal", "labels": ["2", "4"]}
PREDICTIONS = np.array([[0.25, 0.75], [0.125, 0.875], [1.0, 0.0]])
LABELS = {"columns": ["rude", "mild"], "kind": "multilabel"}
NUMBERS = {"columns": ["x", "y"], "kind": "number"}


@pytest.mark.parametrize(
    ("changed", "header", "first"),
    [
        ({}, "id,A,B", "b,0.125,0.875"),
        ({"metric": "auc"}, "id,author", "b,0.875"),
        ({"metric": "auc", "positive": "A"}, "id,author", "b,0.125"),
        ({"metric": "accuracy"}, "id,author", "b,B"),
        ({"submission": {"columns": {"is_a": "A"}}}, "id,is_a", "b,0.125"),
        ({"target": LABELS, "metric": "auc"}, "id,rude,mild", "b,0.125,0.875"),
        ({"target": LABELS, "metric": "micro_f1"}, "id,rude,mild", "b,0,1"),
        ({"target": NUMBERS, "metric": "mcrmse"}, "id,x,y", "b,0.125,0.875"),
        ({"target": GRADES, "metric": "rmse"}, "id,s", "b,3.75"),
        (
            {"target": {"columns": ["s"], "kind": "ordinal", "labels": ["2", "4"]}, "metric": "quadratic_kappa"},
            "id,s",
            "b,4",
        ),
    ],
)
def test_each_form_is_as_the_competition_has_it(
    tmp_path: Path, changed: dict[str, Any], header: str, first: str
) -> None:
    task, ids = define(**changed, sample="s.csv"), pd.Series(["a", "b", "c"])
    (tmp_path / "s.csv").write_text(f"{header}\n" + "".join(f"{key}{',0' * header.count(',')}\n" for key in "bac"))
    sample = read_sample(task, tmp_path, ids)
    decided = PREDICTIONS.round() if task.kind == "multilabel" else PREDICTIONS.argmax(1)[:, None].astype(float)
    made = make_submission(task, sample, ids, PREDICTIONS, decided)
    lines = made.to_csv(index=False).splitlines()
    assert (lines[0], lines[1]) == (header, first)
    made.to_csv(tmp_path / "made.csv", index=False)
    assert len(check_submission(task, tmp_path / "made.csv", sample)) == 3
    without = read_sample(task.model_copy(update={"sample": None}), tmp_path, ids)
    assert list(without) == header.split(","), "what the file would have"


def test_a_sample_without_ids_keeps_its_other_columns(tmp_path: Path) -> None:
    task = define(id=None, metric="auc", sample="s.csv")
    (tmp_path / "s.csv").write_text('author,Comment\n0,"x, ""y"""\n0,z\n0,w\n')
    made = make_submission(task, read_sample(task, tmp_path, pd.Series(list("123"))), pd.Series(list("123")),
                           PREDICTIONS, PREDICTIONS[:, :1])  # fmt: skip
    assert made.to_csv(index=False).splitlines()[1] == '0.75,"x, ""y"""'


def test_a_probability_out_of_range_is_refused(tmp_path: Path) -> None:
    sample = read_sample(define(), tmp_path, pd.Series(["a"]))
    for value, told in (
        ("1.5", "found '1.5', expected a probability from 0 to 1"),
        ("nan", "found 'nan', expected a num"),
    ):
        (tmp_path / "made.csv").write_text(f"id,A,B\na,{value},0\n")
        with pytest.raises(UnrollError, match=rf"made.csv: line 2: A: {told}"):
            check_submission(define(), tmp_path / "made.csv", sample)


def test_a_text_is_known_where_all_its_training_rows_agree() -> None:
    task = define(target={"columns": ["one", "two"], "kind": "multilabel"}, metric="auc")
    rows = pd.DataFrame({"text": list("aabb") + list("baca"), "part": ["train"] * 4 + ["test"] * 4})
    rows = rows.assign(**{"true:one": [1, 1, 0, 1] + [np.nan] * 4, "true:two": [0, 0, 1, 1] + [np.nan] * 4})
    truth, known = find_known_truth(task, rows)
    np.testing.assert_array_equal(truth, [[np.nan] * 2, [1, 0], [np.nan] * 2, [1, 0]])
    assert known.tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    ("kind", "metric", "outputs"),
    [("number", "mcrmse", 2), ("multilabel", "auc", 2), ("classes", "log_loss", 2), ("classes", "accuracy", 2)],
)
def test_a_task_without_test_rows_has_a_submission_of_a_header(kind: str, metric: str, outputs: int) -> None:
    columns = ["author"] if kind == "classes" else ["one", "two"]
    target = {"columns": columns, "kind": kind, **({"labels": ["A", "B"]} if kind == "classes" else {})}
    task = define(target=target, metric=metric, test=None)
    none = pd.Series([], dtype=str)
    sample = read_sample(task, Path("nowhere"), none)
    decided = np.empty((0, len(columns)))
    made = make_submission(task, sample, none, np.empty((0, outputs)), decided)
    assert made.empty
    assert list(made) == list(sample)
    assert next(iter(made)) == "id"
