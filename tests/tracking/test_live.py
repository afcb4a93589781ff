"""Folds logged while they train, and what a store that fails does to them."""

import pickle
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.support.outputs import CORPUS_SHA256, EPOCHS, make_record, write_outputs
from tests.tracking.conftest import reopen
from unroll.core.files import read_json
from unroll.tracking.live import LiveFold, LiveRun
from unroll.tracking.projection import project_task
from unroll.tracking.runs import search_runs

PARAMS = {
    "seed": 1,
    "split": {"folds": 3},
    "text": {},
    "model": {"hidden": 5, "pooling": ("last",)},
    "train": {"lr": 0.1},
}
SCORES = {"accuracy": 0.5, "macro_f1": 0.25, "log_loss": 1.5}


def listener(root: Path) -> LiveFold:
    """A listener as a worker gets it."""
    made = LiveFold(root, "sentiment", "macro_f1", PARAMS, CORPUS_SHA256, {"git_commit": "abc", "dvc_stage": ""})
    copy: LiveFold = pickle.loads(pickle.dumps(made))
    return copy


def losses(run_id: str | None) -> list[tuple[int, float]]:
    return [(each.step, each.value) for each in MlflowClient().get_metric_history(str(run_id), "loss")]


def test_a_fold_is_a_run_of_its_own(root: Path) -> None:
    live = listener(root)
    run_id = live.begin("GRU", 2, None)
    assert MlflowClient().get_run(str(run_id)).info.status == "RUNNING"
    for epoch in EPOCHS:
        live.epoch(make_record(2, epoch), 500.0)
    live.end("d" * 64, SCORES)
    run = MlflowClient().get_run(str(run_id))
    assert (run.info.run_name, run.info.status) == ("sentiment GRU fold 2", "FINISHED")
    expected = {"seed": "1", "split.folds": "3", "model.hidden": "5", "model.pooling": "['last']", "train.lr": "0.1"}
    assert run.data.params == {**expected, "cell": "GRU", "fold": "2"}
    assert run.data.tags["outputs_sha256"] == "d" * 64
    assert run.data.tags["fold"] == "2"
    assert not {"mlflow.parentRunId", "dvc_stage"} & run.data.tags.keys()
    assert run.data.metrics["best_accuracy"] == 0.5
    assert run.data.metrics["score"] == 0.25
    assert run.data.metrics["spans_per_second"] == 500
    assert losses(run_id) == [(epoch, make_record(2, epoch).loss) for epoch in EPOCHS]


def test_a_fold_that_is_resumed_continues_its_run(root: Path) -> None:
    live = listener(root)
    run_id = live.begin("GRU", 2, None)
    live.epoch(make_record(2, 1), 500.0)
    MlflowClient().set_terminated(str(run_id), "KILLED")
    live = listener(root)
    assert live.begin("GRU", 2, run_id) == run_id
    assert MlflowClient().get_run(str(run_id)).info.status == "RUNNING"
    for epoch in EPOCHS:
        live.epoch(make_record(2, epoch), None if epoch == 1 else 500.0)
    assert [step for step, _ in losses(run_id)] == list(EPOCHS)
    MlflowClient().delete_run(str(run_id))
    for gone in (run_id, "0" * 32):
        other = listener(root).begin("GRU", 2, gone)
        assert other not in {None, run_id, gone}


def test_a_store_that_is_away_costs_one_warning_for_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    live = listener(tmp_path)
    for copy in (live, pickle.loads(pickle.dumps(live))):
        assert copy.begin("GRU", 0, "kept") == "kept"
        copy.epoch(make_record(0, 1), 1.0)
        copy.end("d" * 64, SCORES)
    err = capsys.readouterr().err
    assert err.count("warning: MLflow: ") == err.count("\n") == 1
    assert "training goes on, and `unroll track` logs what is missing" in err
    live.run.marker.unlink()


@pytest.mark.slow
def test_what_a_store_missed_is_logged_from_the_outputs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = write_outputs(root)
    record = read_json(outputs.models["GRU"] / "run.json")
    first = LiveFold(root, "sentiment", "accuracy", record["params"], CORPUS_SHA256, {})
    second: LiveFold = pickle.loads(pickle.dumps(first))
    ids = {first.begin("GRU", 0, None), second.begin("GRU", 2, None)}
    first.epoch(make_record(0, 1), 1.0)
    with closing(sqlite3.connect(root / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        first.epoch(make_record(0, 2), 1.0)
        first.epoch(make_record(0, 3), 1.0)
        first.end("d" * 64, SCORES)
    err = capsys.readouterr().err
    assert err.count("warning: ") == err.count("\n") == 1, err
    assert "database is locked" in err
    reopen(root)
    project_task(outputs)
    found = {run.info.run_id: run for run in search_runs("tags.cell = 'GRU' AND tags.fold != ''", "sentiment")}
    assert {found.pop(str(run_id)).info.status for run_id in ids} == {"RUNNING"}
    assert sorted(str(run.info.run_name) for run in found.values()) == ["sentiment GRU fold 0", "sentiment GRU fold 2"]
    for run_id, run in found.items():
        assert run.info.status == "FINISHED"
        assert [step for step, _ in losses(run_id)] == list(EPOCHS)
        assert "mlflow.parentRunId" in run.data.tags
    first.run.marker.unlink()


def test_a_run_may_have_a_parent_and_any_end(root: Path) -> None:
    parent = LiveRun(root)
    parent.begin("sentiment", "sweep", {"sweep": "yes"}, {"trials": 2})
    trial = LiveRun(root, parent.marker)
    trial.begin("sentiment", "trial", {"mlflow.parentRunId": str(parent.id)}, {})
    for run, status in ((trial, "KILLED"), (parent, "FINISHED")):
        run.end(status, metrics={"loss": 1.0})
        assert MlflowClient().get_run(str(run.id)).info.status == status
    assert losses(trial.id) == [(0, 1.0)]
