"""`unroll compare` on the outputs of a small task and a real MLflow store."""

from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from tests.support.command import unroll
from tests.support.outputs import outputs_in
from tests.tracking.conftest import empty_store, projected, projected_folder  # noqa: F401
from unroll.tracking.projection import TaskOutputs
from unroll.tracking.runs import PREDICTIONS, create_run, search_runs

OUTPUTS = [f"predicted:{label}" for label in range(5)]


@pytest.fixture
def folder(projected: TaskOutputs) -> Path:  # noqa: F811
    return projected.rows.parents[2]


def compare(folder: Path, *named: str) -> tuple[dict[str, list[str]], str]:
    """Return the table's rows by title, and everything that is printed."""
    done = unroll(folder, "compare", *named)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n\n")[1].splitlines()[1:]
    return {line[:24].strip(): line[24:].split("  ") for line in lines}, done.stdout


def cells(row: list[str]) -> list[str]:
    return [cell for cell in (cell.strip() for cell in row) if cell]


def refused(folder: Path, *named: str) -> str:
    done = unroll(folder, "compare", *named)
    assert done.returncode == 1, done.stdout
    return done.stderr


def ids() -> dict[str, str]:
    return {str(run.info.run_name): str(run.info.run_id) for run in search_runs("", "sentiment")}


def test_two_runs_are_compared_as_their_predictions_say(folder: Path) -> None:
    outputs = outputs_in(folder)
    rows = pd.read_parquet(outputs.rows).set_index("row_id")
    tables = [pd.read_parquet(outputs.models[cell] / "out_of_fold.parquet") for cell in ("RNN", "GRU")]
    predicted = [table[OUTPUTS].to_numpy().argmax(1) for table in tables]
    truth = rows["true:Sentiment"][tables[0]["row_id"]].to_numpy()
    correct = [each == truth for each in predicted]
    table, out = compare(folder, "sentiment/RNN", "sentiment/GRU")
    assert f"scores on the {len(truth)} rows that all runs predicted out of fold" in out
    assert (predicted[0] != predicted[1]).sum() == 1
    assert (correct[0] & ~correct[1]).sum() == 1
    assert "A and B differ on 1 of 24 rows (4.2%): A alone is correct on 1, B alone on 0, neither on 0" in out
    assert f"accuracy of B minus A: {correct[1].mean() - correct[0].mean():+.4f}, 95% interval" in out
    assert f"2,000 bootstrap draws of {rows['group'].nunique()} sentences" in out
    assert cells(table["id"]) == [ids()[f"sentiment {cell}"][:8] for cell in ("RNN", "GRU")]
    assert cells(table["accuracy"]) == [f"{each.mean():.4f}" for each in correct]
    assert cells(table["cell"]) == ["RNN", "GRU"]
    assert "train.lr" not in table, "a parameter with the same value in all of them is left out"


def test_a_run_has_many_names(folder: Path) -> None:
    expected, _ = compare(folder, "sentiment/RNN", "sentiment/ensemble")
    names = ["sentiment RNN", "sentiment ensemble"]
    for given in (names, [ids()[name] for name in names]):
        found, _ = compare(folder, *given)
        assert cells(found["id"]) == cells(expected["id"])
        assert cells(found["log loss"]) == cells(expected["log loss"])


def test_it_is_described_in_words(folder: Path) -> None:
    out = unroll(folder, "compare", "sentiment RNN", "sentiment GRU", "sentiment ensemble").stdout
    for words in (
        "scores on the 24 rows that all runs predicted out of fold",
        "A and B differ on 1 of 24 rows (4.2%): A alone is correct on 1, B alone on 0, neither on 0",
        "A and C differ on ",
        "McNemar's exact test, rows taken as independent: p = 1.",
        "2,000 bootstrap draws of 8 sentences",
        "mean accuracy by sentence",
    ):
        assert words in out, out
    assert (
        "A and B predict the same on every row." in unroll(folder, "compare", "sentiment/RNN", "sentiment RNN").stdout
    )


def test_runs_that_do_not_compare_are_refused(folder: Path) -> None:
    fold, whole = ids()["sentiment GRU fold 0"], ids()["sentiment GRU"]
    for named, told in (
        (["sentiment/GRU"], "expected 2 to 26 runs, found 1"),
        (["sentiment/GRU", "surnames/GRU"], "surnames/GRU: models/surnames/GRU/out_of_fold.parquet or "),
        (["sentiment/GRU", "nobody"], "run nobody: sqlite:///"),
        (["sentiment/GRU", 'it\'s "quoted"'], "has no finished run with that id or name"),
        (["sentiment/GRU", fold], f"has no predictions; compare its parent, run {whole}"),
        (["moods/GRU", "sentiment/GRU"], "competitions/moods.yaml"),
    ):
        assert told in refused(folder, *named)


def test_runs_stay_comparable_without_their_outputs(folder: Path) -> None:
    names = ["sentiment RNN", "sentiment ensemble"]
    before = unroll(folder, "compare", *names).stdout
    for name in ("models", "data"):
        (folder / name).rename(folder / f"no-{name}")
    assert unroll(folder, "compare", *names).stdout == before
    assert "is missing; `dvc repro` writes them" in refused(folder, "sentiment/RNN", "sentiment ensemble")


def test_only_rows_that_both_predicted_are_compared(folder: Path, tmp_path: Path) -> None:
    client, file = MlflowClient(), tmp_path / PREDICTIONS.name
    table = pd.read_parquet(client.download_artifacts(ids()["sentiment GRU"], str(PREDICTIONS)))
    for name, changed in (("half", table.iloc[:12]), ("other texts", table.assign(text="other " + table["text"]))):
        run_id = create_run("sentiment", name, {"task": "sentiment", "cell": "GRU"})
        changed.to_parquet(file, index=False)
        client.log_artifact(run_id, str(file), str(PREDICTIONS.parent))
        client.set_terminated(run_id)
    assert "no row was predicted out of fold by all of them" in refused(folder, "sentiment/GRU", "other texts")
    found, out = compare(folder, "half", "sentiment/RNN")
    assert cells(found["rows out of fold"]) == ["12", "24"]
    assert "scores on the 12 rows that all runs predicted out of fold" in out
    assert len(cells(found["accuracy on all its rows"])) == 2
