"""Runs on a real SQLite store."""

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from unroll import tracking
from unroll.core.errors import UnrollError
from unroll.tracking import runs
from unroll.tracking.outbox import Outbox
from unroll.tracking.owner import Owner, read_begin

SCORES = {"accuracy": 0.5, "macro_f1": 0.25}


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking.open_store(tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_a_run_keeps_what_was_logged_and_is_found_by_its_bundle(tmp_path: Path) -> None:
    with tracking.start_run("mood", "mood LSTM", {"task": "mood", "empty": ""}) as run:
        run.log_params({"seed": 1, "model": {"hidden": 3}})
        rows = pd.DataFrame({"row_id": [1, 2], "label": [0, 1]})
        run.log_dataset(rows, origin="rows.parquet", name="mood", label="label", context="training")
        with tracking.start_run("mood", "mood LSTM fold 0", {}, parent=run) as child:
            for epoch in (1, 2):
                child.log_epoch({"loss": 1 / epoch}, epoch)
        run.log_scores(SCORES)
        run.set_tags({"bundle_sha256": "abc"})
    (tmp_path / "figure.svg").write_text("<svg/>")
    tracking.attach_files(run.id, "figures", [tmp_path / "figure.svg"])

    client = mlflow.MlflowClient()
    found = client.get_run(run.id)
    assert found.data.params == {"seed": "1", "model.hidden": "3"}
    assert found.data.metrics == {"best_accuracy": 0.5, "best_macro_f1": 0.25}
    assert "empty" not in found.data.tags
    assert found.inputs is not None
    assert found.inputs.dataset_inputs[0].dataset.digest
    assert [metric.value for metric in client.get_metric_history(child.id, "loss")] == [1, 0.5]
    assert client.get_run(child.id).data.tags["mlflow.parentRunId"] == run.id
    assert [file.path for file in client.list_artifacts(run.id, "figures")] == ["figures/figure.svg"]
    assert (tmp_path / "mlflow.db").is_file()
    assert tracking.find_run("mood", "abc") == run.id
    assert tracking.find_run("mood", "other") is None
    assert tracking.find_run("elsewhere", "abc") is None


def test_a_run_is_found_by_its_id_its_name_and_the_beginning_of_its_id() -> None:
    ids = []
    for name in ("mood LSTM", "mood GRU", "mood LSTM"):
        with tracking.start_run("mood", name, {"cell": name[5:]}) as run:
            run.log_params({"lr": 1})
        ids.append(run.id)
    with pytest.raises(RuntimeError), tracking.start_run("mood", "mood LSTM", {}):
        raise RuntimeError
    assert tracking.look_up(ids[0]).id == ids[0]
    assert tracking.look_up(ids[0][:10]).id == ids[0]
    found = tracking.look_up("mood LSTM")
    assert found.id == ids[2], "the newest one that has not failed"
    assert (found.name, found.params, found.tags["cell"]) == ("mood LSTM", {"lr": "1"}, "LSTM")
    for named in ("mood", "0000ffff", "%", "mood L%", "a'b", 'a"b', "a'b\"c", "' OR 1=1", ids[0][:3]):
        with pytest.raises(UnrollError, match="knows no finished run of that id or name"):
            tracking.look_up(named)


def test_the_beginning_of_two_ids_is_refused() -> None:
    ids = []
    for number in range(2):
        with tracking.start_run("mood", f"run {number}", {}) as run:
            pass
        ids.append(run.id)
    database = sqlite3.connect(mlflow.get_tracking_uri().removeprefix("sqlite:///"))
    database.execute("PRAGMA foreign_keys = OFF")
    twin = ids[0][:12] + ids[1][12:]
    database.execute("UPDATE runs SET run_uuid = ? WHERE run_uuid = ?", (twin, ids[1]))
    database.commit()
    database.close()
    with pytest.raises(UnrollError, match=r"begin so; give more of the id"):
        tracking.look_up(ids[0][:12])


def test_answers_are_kept_with_the_rows_that_they_answer() -> None:
    rows = pd.DataFrame({
        "row_id": [5, 3, 4], "group": ["a", "a", "b"], "text": ["None", "", "Ж"], "label": [1, 0, 1],
        "part": ["train"] * 3, "fold": [0, 0, 1],
    })  # fmt: skip
    answers = pd.DataFrame({"row_id": [3, 5], "fold": [0, 0], "x": [0.25, 1 / 3], "y": [0.75, 2 / 3]})
    with tracking.start_run("mood", "mood LSTM", {}) as run:
        run.log_predictions(answers, rows)
    kept = tracking.read_predictions(run.id)
    assert kept is not None
    expected = answers.assign(group=["a", "a"], text=["", "None"], label=[0, 1])
    pd.testing.assert_frame_equal(kept, expected, check_dtype=False)
    with tracking.start_run("mood", "another", {}) as other:
        pass
    assert tracking.read_predictions(other.id) is None


def test_a_run_is_named_after_the_experiment_that_it_belongs_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    assert tracking.name_run("mood", "LSTM", "fold", 0) == "mood LSTM fold 0"
    monkeypatch.setenv("DVC_EXP_NAME", "faster")
    assert tracking.name_run("mood", "LSTM") == "mood LSTM (faster)"


def test_a_run_that_ends_in_an_error_is_marked_as_failed() -> None:
    with pytest.raises(RuntimeError), tracking.start_run("mood", "broken", {}) as run:
        raise RuntimeError
    assert mlflow.MlflowClient().get_run(run.id).info.status == "FAILED"


@pytest.mark.slow
def test_a_run_whose_process_was_killed_ends_when_the_next_one_of_its_task_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import sys; from pathlib import Path; from unroll import tracking\n"
        f"tracking.open_store(Path({str(tmp_path)!r}))\n"
        "with tracking.start_run('mood', 'LSTM', {}) as run, tracking.start_run('mood', 'fold 0', {}, run) as fold:\n"
        "    fold.log_epoch({'loss': 1.0}, 1); print(run.id, fold.id, flush=True); sys.stdin.read()"
    )
    client = mlflow.MlflowClient()
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    ids = process.stdout.readline().split()

    def statuses() -> list[str]:
        with tracking.start_run("mood", "another", {}):
            return [client.get_run(run_id).info.status for run_id in ids]

    assert statuses() == ["RUNNING", "RUNNING"]
    process.kill()
    process.communicate()
    client.set_tag(ids[0], "host", "another-host")  # of which nothing is known here
    assert statuses() == ["RUNNING", "KILLED"]
    client.set_tag(ids[0], "host", client.get_run(ids[1]).data.tags["host"])
    assert statuses() == ["KILLED", "KILLED"]
    (logged,) = client.get_metric_history(ids[1], "loss")
    assert [client.get_run(run_id).info.end_time for run_id in ids] == [logged.timestamp] * 2
    assert capsys.readouterr().err == ""


def test_a_process_is_gone_only_where_that_is_certain() -> None:
    this = Owner.this()
    assert not this.is_gone()
    assert not replace(this, machine="another", pid=1, begun="").is_gone()
    assert not replace(this, namespace="of another container", begun="").is_gone()
    assert replace(this, boot="an earlier one").is_gone()
    assert not replace(this, machine="", boot="of a machine without an id").is_gone()
    assert replace(this, begun="-1").is_gone(), "the number was given again"
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    child = replace(this, pid=process.pid, begun=read_begin(process.pid))
    assert not child.is_gone()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert child.is_gone(), "a zombie runs no more"
    process.communicate()
    assert child.is_gone()
    assert Owner.from_tag(this.as_tag()) == this
    text_for_a_number = this.as_tag().replace(f'"pid": {this.pid}', f'"pid": "{this.pid}"')
    for tag in ("", "12 of 1700000000", "[1]", '{"pid": 1}', "null", text_for_a_number):
        assert Owner.from_tag(tag) is None


def test_a_run_left_open_that_is_no_more_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with tracking.start_run("mood", "left", {}) as left:
        found = mlflow.MlflowClient().get_run(left.id)
    owner = replace(Owner.this(), begun="-1").as_tag()
    found.data.tags["started_by"] = owner
    found._info._run_id = "0" * 32  # another program has deleted it since it was found
    monkeypatch.setattr(runs, "_search", lambda experiment, condition: [found] if "RUNNING" in condition else [])
    with tracking.start_run("mood", "next", {}) as run:
        pass
    assert mlflow.MlflowClient().get_run(run.id).info.status == "FINISHED"
    assert capsys.readouterr().err == "", "the store is not said to be down"


def test_the_environment_decides_where_runs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    assert tracking.tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/other.db"


def test_a_queued_experiment_writes_to_the_project_it_was_queued_from(tmp_path: Path) -> None:
    workspace = tmp_path / ".dvc/tmp/exps/tmp123"
    workspace.mkdir(parents=True)
    assert tracking.tracking_uri(workspace) == f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.slow
def test_four_processes_open_a_fresh_store_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    code = (
        f"from pathlib import Path; from unroll import tracking; tracking.open_store(Path({str(fresh)!r}))\n"
        "with tracking.start_run('mood', 'run', {}) as run: run.log_scores({'accuracy': 1.0})"
    )
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE) for _ in range(4)
    ]
    errors = [process.communicate()[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, errors
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow itself sets it, for its child processes
    tracking.open_store(fresh)
    assert len(mlflow.search_runs(search_all_experiments=True)) == 4


def test_a_store_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UnrollError, match=r"http://127.0.0.1:9 cannot be opened .*MLFLOW_TRACKING_URI names"):
        tracking.open_store(tmp_path)


@pytest.mark.slow
def test_what_a_store_does_not_take_is_kept_and_sent_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / ".cache/unsent"
    with sqlite3.connect(tmp_path / "mlflow.db") as other:
        with tracking.start_run("mood", "parent", {"task": "mood"}) as run:
            run.log_epoch({"loss": 1.0}, 1)
            other.execute("BEGIN EXCLUSIVE")
            run.log_epoch({"loss": 0.5}, 2)
            with tracking.start_run("mood", "child", {"fold": "0"}, parent=run) as child:
                child.log_params({"seed": 1})
                child.log_epoch({"loss": 0.25}, 1)
            with (sorted(kept.glob("*.jsonl"))[-1]).open("a") as file:
                file.write('{"metrics": {"lo')  # a process that was killed while it wrote
        said = capsys.readouterr().err
        assert said.count("has stopped answering") == 1
        assert "2 runs are not sent yet" in said
    tracking.open_store(tmp_path)
    assert "sent 2 runs" in capsys.readouterr().err
    assert list(kept.iterdir()) == []
    client = mlflow.MlflowClient()
    found = {run.info.run_name: run for run in mlflow.search_runs(search_all_experiments=True, output_format="list")}
    assert found.keys() == {"parent", "child"}
    assert [item.value for item in client.get_metric_history(run.id, "loss")] == [1.0, 0.5]
    assert found["child"].data.metrics == {"loss": 0.25}
    assert found["child"].data.params == {"seed": "1"}
    assert found["child"].data.tags["mlflow.parentRunId"] == run.id
    assert found["child"].data.tags["fold"] == "0"
    assert {item.info.status for item in found.values()} == {"FINISHED"}


@pytest.mark.slow
def test_what_is_kept_for_a_run_that_is_gone_is_set_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / ".cache/unsent"
    store = f"sqlite:///{tmp_path}/mlflow.db"
    outbox = Outbox(kept, {"store": store, "id": "0" * 32})
    outbox.add({"metrics": {"loss": 1.0}, "step": 1, "time": 1})
    tracking.open_store(tmp_path)
    assert len(list(kept.glob("*.jsonl"))) == 1, "the file of a run that goes on was taken"
    outbox.close()
    tracking.open_store(tmp_path)
    assert "refuses what was kept for a run that it does not have any more" in capsys.readouterr().err
    assert [path.suffix for path in kept.iterdir()] == [".refused"]
