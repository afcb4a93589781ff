"""`unroll compare`, and who becomes champion, on a small project with a real MLflow store."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.support.project import Project
from unroll.cli.compare import chance

pytestmark = pytest.mark.slow

LABELS = list("01234")
FIND_RUNS = """
import json, mlflow
mlflow.set_tracking_uri("sqlite:///mlflow.db")
runs = mlflow.search_runs(search_all_experiments=True, order_by=["attributes.start_time"], output_format="list")
print(json.dumps({run.info.run_name: {"id": run.info.run_id, "metrics": run.data.metrics} for run in runs}))
"""


@pytest.fixture(scope="module")
def runs(small_project: Project) -> dict[str, Any]:
    """The newest run of each name."""
    found: dict[str, Any] = json.loads(small_project.run("python", "-c", FIND_RUNS).stdout.splitlines()[-1])
    return found


def compare(project: Project, *named: str) -> Any:
    return json.loads(project.run("unroll", "compare", *named, "--json").stdout)


def refused(project: Project, *named: str) -> str:
    done = project.run("unroll", "compare", *named, check=False)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def read(project: Project, cell: str) -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    folder = project.folder / ("data/ensemble/sentiment" if cell == "ensemble" else f"models/sentiment/{cell}")
    table = pd.read_parquet(folder / "out_of_fold.parquet")
    rows = pd.read_parquet(project.folder / "data/rows/sentiment.parquet").set_index("row_id")
    return table, rows["label"][table["row_id"]].to_numpy()


def test_two_runs_are_compared_as_their_answers_say(small_project: Project, runs: dict[str, Any]) -> None:
    found = compare(small_project, "sentiment/LSTM", "sentiment/ensemble")
    tables = {cell: read(small_project, cell) for cell in ("LSTM", "ensemble")}
    truth = tables["LSTM"][1]
    said = {cell: table[LABELS].to_numpy().argmax(1) for cell, (table, _) in tables.items()}
    right = {cell: answer == truth for cell, answer in said.items()}
    (difference,) = found["differences"]
    assert found["shared_rows"] == len(truth)
    assert difference["rows"] == (said["LSTM"] != said["ensemble"]).sum() > 0
    assert difference["only_first_right"] == (right["LSTM"] & ~right["ensemble"]).sum()
    assert difference["only_second_right"] == (right["ensemble"] & ~right["LSTM"]).sum()
    assert sum(pair["rows"] for pair in difference["answers"]) == difference["rows"]
    assert difference["accuracy"] == pytest.approx(right["ensemble"].mean() - right["LSTM"].mean())
    rows = pd.read_parquet(small_project.folder / "data/rows/sentiment.parquet").set_index("row_id")
    assert difference["groups"] == rows["group"][tables["LSTM"][0]["row_id"]].nunique() > 10
    assert difference["low"] <= difference["accuracy"] <= difference["high"]
    for run, cell in zip(found["runs"], ("LSTM", "ensemble"), strict=True):
        assert run["run_id"] == runs[f"sentiment {cell}"]["id"]
        assert run["scores"]["accuracy"] == pytest.approx(runs[f"sentiment {cell}"]["metrics"]["best_accuracy"])
        assert run["scores"]["accuracy"] == pytest.approx(runs[f"sentiment {cell}"]["metrics"]["score"])


def test_a_run_has_many_names(small_project: Project, runs: dict[str, Any]) -> None:
    expected = compare(small_project, "sentiment/RNN", "sentiment/GRU")
    names = [f"sentiment {cell}" for cell in ("RNN", "GRU")]
    for named in (names, [runs[name]["id"] for name in names], [runs[name]["id"][:8] for name in names]):
        found = compare(small_project, *named)
        for content in (found, expected):
            for place in (*content["runs"], *content["differences"]):
                for key in ("asked", "name", "first", "second"):
                    place.pop(key, None)
        assert found == expected


def test_it_is_told_in_words(small_project: Project) -> None:
    out = small_project.run("unroll", "compare", "sentiment LSTM", "sentiment GRU", "sentiment ensemble").stdout
    for words in (
        "rows that all of them answered out of fold",
        "A and B answer ",
        "A and C answer ",
        "A alone is right on ",
        "Is one better? ",
        "McNemar's exact test, p = ",
        "2,000 draws of ",
        " sentences, each with all its rows",
        "So: ",
        "each sentence once",
    ):
        assert words in out
    (line,) = [line for line in out.splitlines() if line.startswith("cell ")]
    assert line.split() == ["cell", "LSTM", "GRU", "ensemble"]
    assert "train.lr" not in out, "a setting that is the same in all of them is not shown"
    assert "give the same answer on every row" in small_project.run(
        "unroll", "compare", "sentiment/LSTM", "sentiment LSTM"
    ).stdout  # fmt: skip


@pytest.mark.parametrize(
    ("p_value", "words"),
    [(1.0, "in 100 of 100"), (0.034, "in 3 of 100"), (0.004, "in 4 of 1,000"), (1e-9, "less than once in 1,000")],
)
def test_a_probability_in_words(p_value: float, words: str) -> None:
    assert chance(p_value) == f"{words} comparisons"


def test_runs_that_do_not_compare_are_refused(small_project: Project, runs: dict[str, Any]) -> None:
    fold, whole = runs["sentiment LSTM fold 0"]["id"], runs["sentiment LSTM"]["id"]
    for named, told in (
        (["sentiment/LSTM"], "give two runs or more"),
        (["sentiment/LSTM", "surnames/LSTM"], "surnames/LSTM is of surnames"),
        (["sentiment/LSTM", "nobody"], "run nobody: MLflow at sqlite:///"),
        (["sentiment/LSTM", 'it\'s "quoted"'], "knows no finished run of that id or name"),
        (["sentiment/LSTM", fold], f"it is one fold of run {whole}, compare that one"),
        (["moods/LSTM", "sentiment/LSTM"], "task 'moods'"),
    ):
        assert told in refused(small_project, *named)


def test_runs_stay_comparable_when_the_workspace_has_moved_on(small_project: Project, tmp_path: Path) -> None:
    named = ["surnames RNN", "surnames ensemble"]
    before = small_project.run("unroll", "compare", *named).stdout
    moved = Project(tmp_path / "moved")
    ignored = shutil.ignore_patterns("models", "data", "cache")
    shutil.copytree(small_project.folder, moved.folder, symlinks=True, ignore=ignored)
    assert moved.run("unroll", "compare", *named).stdout == before
    assert "surnames/RNN: has no model here; `dvc repro`" in refused(moved, "surnames/RNN", "surnames ensemble")


LOG = """
import sys
from pathlib import Path
import pandas as pd
from unroll import tracking
tracking.open_store(Path.cwd())
table = pd.read_parquet("models/sentiment/LSTM/out_of_fold.parquet")
rows = pd.read_parquet("data/rows/sentiment.parquet")
digest = tracking.read_tags(tracking.look_up("sentiment LSTM").id)["bundle_sha256"]
for name, changed, keep in (
    ("other texts", rows.assign(text="other " + rows["text"]), True),
    ("half", rows, True),
    ("kept nothing", rows, False),
    ("kept by nobody", rows, False),
):
    tags = {"task": "sentiment", "cell": "LSTM", "bundle_sha256": digest if name == "kept nothing" else "gone"}
    with tracking.start_run("sentiment", name, tags) as run:
        if keep:
            run.log_predictions(table.iloc[: len(table) // 2] if name == "half" else table, changed)
"""


def test_only_rows_that_both_answered_are_compared(small_project: Project) -> None:
    small_project.run("python", "-c", LOG)
    assert "there is no row that all of them answered out of fold" in refused(
        small_project, "sentiment/LSTM", "other texts"
    )
    found = compare(small_project, "half", "sentiment/GRU")
    assert [run["rows"] for run in found["runs"]] == [found["shared_rows"], len(read(small_project, "GRU")[0])]
    assert found["runs"][0]["rows"] < found["runs"][1]["rows"]
    assert "accuracy on all its own rows" in small_project.run("unroll", "compare", "half", "sentiment/GRU").stdout
    # A run from before runs kept their answers is read from the model that stands here, where that is its own.
    old, here = compare(small_project, "kept nothing", "sentiment/GRU"), compare(
        small_project, "sentiment/LSTM", "sentiment/GRU"
    )  # fmt: skip
    assert old["differences"][0]["rows"] == here["differences"][0]["rows"]
    assert "run kept by nobody: kept no answers" in refused(small_project, "kept by nobody", "sentiment/GRU")


FIND_CHAMPION = """
from pathlib import Path
from unroll import tracking
from unroll.tracking import registry
tracking.open_store(Path.cwd())
found = registry.find_champion("surnames")
tags, versions = found.tags, registry.list_versions("surnames")
print(found.number, tags["cell"], tags["score"], tags["sample"], len(versions))
"""


def champion(project: Project) -> list[str]:
    return project.run("python", "-c", FIND_CHAMPION).stdout.splitlines()[-1].split()


def test_the_best_model_is_champion_until_a_better_one_comes(small_project: Project) -> None:
    scores = json.loads((small_project.folder / "reports/metrics/surnames.json").read_text())
    number, cell, score, sample, versions = champion(small_project)
    judged = {name: model["out_of_fold"]["accuracy"] for name, model in scores["models"].items()}
    assert (number, sample, versions) == ("1", "yes", "1")
    assert float(score) == pytest.approx(max(judged.values()), abs=1e-6)
    assert judged[cell] == max(judged.values())

    again = small_project.run("python", "-m", "unroll.stages.evaluate", "surnames").stdout
    assert f"surnames: the champion stays version 1 ({cell}): it is this very model" in again
    assert champion(small_project)[4] == "1", "no second version of the same model"

    before = float(score)
    for rate, epochs in ((1e-6, 1), (0.03, 20)):  # hardly learns; learns more than two epochs could
        small_project.set("surnames.train.lr", rate)
        small_project.set("surnames.train.epochs", epochs)
        out = small_project.run("dvc", "repro", "evaluate@surnames").stdout
        (line,) = [line for line in out.splitlines() if line.startswith("surnames: the champion")]
        number, _, score, _, versions = champion(small_project)
        if rate == 1e-6:
            assert line.startswith("surnames: the champion stays version 1 (")
            assert (number, float(score), versions) == ("1", before, "2")
        else:
            assert line.startswith("surnames: the champion is now version 3 (")
            assert ", no longer version 1: accuracy 0." in line
            assert (number, versions) == ("3", "3")
            assert float(score) > before
        assert "out-of-fold rows of both" in line
