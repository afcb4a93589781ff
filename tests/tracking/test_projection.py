"""What the store has after a task's outputs were projected into it."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.support.outputs import CELLS, CORPUS_SHA256, EPOCHS, FOLDS, make_record, outputs_in, write_outputs
from tests.tracking.conftest import reopen
from unroll.core.errors import UnrollError
from unroll.core.files import read_json, sha256_of
from unroll.tracking import projection
from unroll.tracking.live import LiveFold
from unroll.tracking.projection import TaskOutputs, project_task
from unroll.tracking.runs import (
    download_model,
    find_champion,
    find_run,
    list_versions,
    read_predictions,
    search_runs,
)

NAMES = {f"sentiment {cell}{fold}" for cell in CELLS for fold in ("", *(f" fold {number}" for number in FOLDS))} | {
    "sentiment ensemble"
}


def runs() -> dict[str, Run]:
    found = search_runs("", "sentiment")
    by_name = {str(run.info.run_name): run for run in found}
    assert len(by_name) == len(found), "a run was logged twice"
    return by_name


def snapshot() -> dict[str, Any]:
    """All that the store has of the runs but ids and times."""
    client, found = MlflowClient(), {}
    names = {run.info.run_id: name for name, run in runs().items()}
    for name, run in runs().items():
        own = ("parent", "member_", "mlflow.")
        tags = {key: value for key, value in run.data.tags.items() if not key.startswith(own)}
        history = {
            metric: [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, metric)]
            for metric in run.data.metrics
        }
        files = sorted(file.path for file in client.list_artifacts(run.info.run_id))
        parent = names.get(run.data.tags.get("mlflow.parentRunId", ""))
        found[name] = (run.info.status, run.data.params, tags, history, files, parent)
    return found


def live(root: Path, outputs: TaskOutputs) -> LiveFold:
    record = read_json(outputs.models["GRU"] / "run.json")
    return LiveFold(root, "sentiment", "accuracy", record["params"], CORPUS_SHA256, {"git_commit": "of training"})


def test_every_run_is_there_with_all_that_describes_it(projected: TaskOutputs) -> None:
    found = runs()
    assert found.keys() == NAMES
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    cell, record = found["sentiment GRU"], read_json(projected.models["GRU"] / "run.json")
    assert cell.data.params["cell"] == "GRU"
    assert cell.data.params["train.lr"] == str(record["params"]["train"]["lr"])
    assert cell.data.params["split.folds"] == "5"
    assert cell.data.tags["outputs_sha256"] == record["digest"]
    assert cell.data.tags["corpus_sha256"] == CORPUS_SHA256
    assert cell.data.tags["git_commit"] == "abc"
    assert cell.data.metrics["best_accuracy"] == cell.data.metrics["score"] == record["scores"]["accuracy"]
    client = MlflowClient()
    means = [(1 / epoch + 0 + 1 / epoch + 2) / 2 for epoch in EPOCHS]
    logged = client.get_metric_history(cell.info.run_id, "loss")
    assert [each.step for each in logged] == list(EPOCHS)
    assert [each.value for each in logged] == pytest.approx(means)
    assert cell.inputs is not None
    (dataset,) = cell.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("sentiment", CORPUS_SHA256[:36])
    for fold, summary in zip(FOLDS, record["folds"], strict=True):
        child = found[f"sentiment GRU fold {fold}"]
        assert child.data.tags["mlflow.parentRunId"] == cell.info.run_id
        assert child.data.tags["outputs_sha256"] == summary["digest"]
        assert child.data.metrics["best_macro_f1"] == summary["macro_f1"]
        assert child.data.metrics["best_epoch"] == 2
        assert child.data.params["fold"] == str(fold)
        history = client.get_metric_history(child.info.run_id, "valid_accuracy")
        assert [(each.step, each.value) for each in history] == [
            (n, make_record(fold, n).scores["accuracy"]) for n in EPOCHS
        ]
    ensemble = found["sentiment ensemble"]
    assert ensemble.data.params == {"cell": "ensemble", "weight.RNN": "0.25", "weight.GRU": "0.75", "nested": "True"}
    assert ensemble.data.tags["member_GRU"] == cell.info.run_id
    assert ensemble.data.tags["outputs_sha256"] == sha256_of(projected.ensemble)
    assert ensemble.data.metrics["best_group_accuracy"] > 0
    predictions = read_predictions(cell.info.run_id)
    assert predictions is not None
    assert list(predictions) == [
        "row_id", "fold", *(f"predicted:{label}" for label in range(5)), "id", "group", "text", "true:Sentiment",
    ]  # fmt: skip
    run = find_run("sentiment", record["digest"])
    assert run is not None
    assert run.info.run_id == cell.info.run_id
    assert find_run("sentiment", "other") is find_run("elsewhere", record["digest"]) is None


def test_a_second_time_nothing_is_logged(projected: TaskOutputs) -> None:
    before = snapshot()
    assert project_task(projected) == []
    assert snapshot() == before
    assert len(list_versions("sentiment")) == 1


@pytest.mark.slow
def test_a_store_that_was_deleted_is_filled_again(projected: TaskOutputs, root: Path) -> None:
    reopen(projected.rows.parents[2])
    before, champion = snapshot(), find_champion("sentiment")
    reopen(root)
    first, second = project_task(projected)
    assert first.startswith("sentiment: logged to MLflow: RNN fold 0, RNN fold 2, RNN, GRU fold 0")
    assert second == "sentiment: the champion is now version 1 (RNN): there was none before"
    assert snapshot() == before
    again = find_champion("sentiment")
    assert again is not None
    assert champion is not None
    assert again.tags == champion.tags == {**champion.tags, "cell": "RNN", "metric": "accuracy", "sample": "yes"}


@pytest.mark.slow
def test_only_what_is_missing_is_logged(projected: TaskOutputs) -> None:
    before, client = snapshot(), MlflowClient()
    client.delete_run(runs()["sentiment GRU fold 2"].info.run_id)
    client.delete_run(runs()["sentiment ensemble"].info.run_id)
    client.delete_registered_model_alias("sentiment", "champion")
    assert project_task(projected) == [
        "sentiment: logged to MLflow: GRU fold 2, ensemble",
        "sentiment: the champion is now version 1 (RNN): there was none before",
    ]
    assert snapshot() == before
    assert project_task(projected) == []


@pytest.mark.slow
def test_folds_logged_live_are_put_below_their_cell_and_not_logged_again(root: Path) -> None:
    outputs = write_outputs(root)
    record = read_json(outputs.models["GRU"] / "run.json")
    logger = live(root, outputs)
    whole = logger.begin("GRU", 0, None)
    for epoch in EPOCHS:
        logger.epoch(make_record(0, epoch), 1000.0)
    logger.end(record["folds"][0]["digest"], {"accuracy": 0.5, "macro_f1": 0.25, "log_loss": 1.5})
    cut_off = logger.begin("GRU", 2, None)  # by a training that was killed, or while the store went away
    logger.epoch(make_record(2, 1), None)
    assert None not in {whole, cut_off}

    line = project_task(outputs)[0]
    assert line == "sentiment: logged to MLflow: RNN fold 0, RNN fold 2, RNN, GRU fold 2, GRU, ensemble"
    found = {run.info.run_id: run for run in search_runs("tags.cell = 'GRU'", "sentiment")}
    parent = find_run("sentiment", record["digest"])
    assert parent is not None
    assert found.pop(str(cut_off)).info.status == "RUNNING"
    assert len(found) == 3
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    adopted = found[str(whole)].data
    assert adopted.tags["mlflow.parentRunId"] == parent.info.run_id
    assert adopted.tags["git_commit"] == "of training"
    assert "spans_per_second" in adopted.metrics
    assert [each.step for each in MlflowClient().get_metric_history(str(whole), "loss")] == list(EPOCHS)
    assert project_task(outputs) == []


@pytest.mark.slow
def test_files_that_were_deleted_come_back(projected: TaskOutputs) -> None:
    before = snapshot()
    shutil.rmtree(projected.rows.parents[2] / "mlartifacts")
    assert project_task(projected) == [
        "sentiment: logged to MLflow: RNN, GRU, ensemble",
        "sentiment: the champion is now version 2 (RNN): the files of version 1, the same model, were missing",
    ]
    assert {name: each[4] for name, each in snapshot().items()} == {name: each[4] for name, each in before.items()}
    assert project_task(projected) == []
    champion = find_champion("sentiment")
    assert champion is not None
    folder = download_model(champion, projected.rows.parents[2])
    assert (folder / "MLmodel").is_file()


@pytest.mark.slow
def test_a_projection_that_was_interrupted_is_completed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = write_outputs(root)
    with monkeypatch.context() as patch:
        patch.setattr(projection, "join_predictions", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            project_task(outputs)
    assert project_task(outputs)
    assert runs().keys() == NAMES
    assert {run.info.status for run in runs().values()} == {"FINISHED"}
    assert {len(each[3]["loss"]) for name, each in snapshot().items() if "ensemble" not in name} == {len(EPOCHS)}


@pytest.mark.slow
def test_the_alias_moves_to_a_better_model_only(projected: TaskOutputs) -> None:
    folder = projected.rows.parents[2]
    for number, correct in ((2, 11), (3, 20)):
        write_outputs(folder, seed=number, correct=correct)
        line = project_task(projected)[-1]
        champion = find_champion("sentiment")
        assert champion is not None
        assert int(list_versions("sentiment")[0].version) == number
        if number == 2:
            assert line.startswith(
                "sentiment: the champion is still version 1 (RNN), not version 2 (RNN): accuracy 0.5"
            )
            assert int(champion.version) == 1
        else:
            assert line.startswith("sentiment: the champion is now version 3 (RNN): accuracy 0.8750")
            assert int(champion.version) == 3
    MlflowClient().set_registered_model_alias("sentiment", "champion", "1")  # by hand
    assert project_task(projected) == []
    write_outputs(folder, seed=4, correct=2)
    line = project_task(replace(projected, is_sample=False))[-1]
    assert line.startswith("sentiment: the champion is now version 4 (RNN): ")
    assert "sample" in line


@pytest.mark.slow
def test_a_moved_project_keeps_its_artifacts(projected: TaskOutputs, projected_folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved elsewhere"
    shutil.move(projected.rows.parents[2], moved)
    reopen(moved)
    assert project_task(outputs_in(moved)) == []
    run = runs()["sentiment GRU"]
    assert run.info.artifact_uri.startswith(moved.as_uri())
    assert read_predictions(run.info.run_id) is not None
    predictions: Any = mlflow.pyfunc.load_model("models:/sentiment@champion").predict(["never dull"])
    assert set(predictions[0].probabilities) == set("01234")
    write_outputs(moved, seed=5)
    project_task(outputs_in(moved))
    assert runs_are_below(moved)
    reopen(projected_folder)  # the place that the first copy was made from
    assert read_predictions(runs()["sentiment GRU"].info.run_id) is not None
    assert runs_are_below(projected_folder)


def runs_are_below(folder: Path) -> bool:
    return all(run.info.artifact_uri.startswith(folder.as_uri()) for run in search_runs("", "sentiment"))


@pytest.mark.slow
def test_outputs_may_be_links_as_dvc_makes_them(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    cache = tmp_path_factory.mktemp("cache")
    outputs = write_outputs(root)
    for name in ("models", "data"):
        for number, file in enumerate(path for path in (root / name).rglob("*") if path.is_file()):
            target = cache / f"{name}-{number}"
            shutil.move(file, target)
            file.symlink_to(target)
    project_task(outputs)
    assert runs().keys() == NAMES
    assert mlflow.pyfunc.load_model("models:/sentiment@champion").predict(["dull"])


def test_figures_are_attached_once_to_the_runs_that_they_show(projected: TaskOutputs) -> None:
    figures = projected.rows.parents[2] / "reports/figures"
    figures.mkdir(parents=True)
    for name in ("curves", "confusion-GRU", "scores"):
        (figures / f"sentiment-{name}.svg").write_text("<svg/>")
    outputs = outputs_in(projected.rows.parents[2])
    assert project_task(outputs) == []
    client, found = MlflowClient(), runs()

    def attached(name: str) -> list[str]:
        return [Path(file.path).name for file in client.list_artifacts(found[name].info.run_id, "figures")]

    assert attached("sentiment GRU") == ["sentiment-confusion-GRU.svg", "sentiment-curves.svg"]
    assert attached("sentiment RNN") == ["sentiment-curves.svg"]


@pytest.mark.slow
def test_two_processes_at_once_log_every_run_once(root: Path) -> None:
    write_outputs(root)
    code = (
        "import sys; from pathlib import Path; from tests.support.outputs import outputs_in\n"
        "from unroll.tracking.projection import project_task; from tests.tracking.conftest import reopen\n"
        "root = Path(sys.argv[1]); reopen(root); print(project_task(outputs_in(root)))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(root)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate()[0].strip().splitlines()[-1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(line == "[]" for line in printed) == [False, True]
    assert runs().keys() == NAMES
    assert len(list_versions("sentiment")) == 1


def test_an_output_that_is_missing_is_named(projected: TaskOutputs) -> None:
    (projected.models["GRU"] / "run.json").unlink()
    with pytest.raises(UnrollError, match=r"run.json: no such file"):
        project_task(projected)


def test_predictions_are_kept_letter_for_letter(projected: TaskOutputs) -> None:
    kept = read_predictions(runs()["sentiment GRU"].info.run_id)
    table, rows = pd.read_parquet(projected.models["GRU"] / "out_of_fold.parquet"), pd.read_parquet(projected.rows)
    assert kept is not None
    pd.testing.assert_frame_equal(kept[list(table)], table)
    assert kept["text"].tolist() == rows["text"].tolist()
    assert json.dumps(kept["true:Sentiment"].tolist()) == json.dumps(rows["true:Sentiment"].tolist())
