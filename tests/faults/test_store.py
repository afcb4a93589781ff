"""An MLflow store that is locked, absent, old, or stops answering in the middle of a training."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.faults.conftest import Tell, models, told, train
from tests.support.project import Project

pytestmark = [pytest.mark.slow, pytest.mark.faults]

# How long MLflow itself waits for a server; the default of unroll is a minute in all.
IMPATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "15", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
RUNS = """
import json, mlflow
client = mlflow.MlflowClient()
found = mlflow.search_runs(search_all_experiments=True, output_format="list")
print(json.dumps([{
    "name": run.info.run_name, "id": run.info.run_id, "status": run.info.status,
    "parent": run.data.tags.get("mlflow.parentRunId"), "params": run.data.params,
    "epochs": [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")],
    "scored": "best_accuracy" in run.data.metrics,
} for run in found]))
"""


def runs(project: Project, store: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(
        project.run("python", "-c", RUNS, MLFLOW_TRACKING_URI=store).stdout.splitlines()[-1]
    )
    return sorted(found, key=lambda run: str(run["name"]))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def mlflow_server(folder: Path, store: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run `mlflow server` in a process group of its own, until the block ends."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--host", "127.0.0.1",
               "--port", str(port), "--workers", "1", "--artifacts-destination", str(folder / "artifacts")]  # fmt: skip
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(1200):
            if process.poll() is not None:
                raise AssertionError((folder / "server.log").read_text())
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).read()
                break
            except OSError:
                time.sleep(0.1)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a stopped one dies of it too
        process.wait()


def start_training(project: Project, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "unroll.stages.train", "sentiment", "GRU"], cwd=project.folder, text=True,
        env=project.environment() | variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def wait_for_epoch(process: subprocess.Popen[str], epoch: int) -> None:
    assert process.stdout is not None
    if not any(f"epoch {epoch}/" in line for line in process.stdout):
        raise AssertionError(process.communicate()[1])


@pytest.mark.parametrize("fault", ["does not answer", "is gone"])
def test_a_server_lost_in_the_middle_of_a_training(tokenized: Project, tmp_path: Path, tell: Tell, fault: str) -> None:
    tokenized.set("sentiment.train.epochs", 60)
    store, port = f"sqlite:///{tmp_path}/server.db", free_port()
    address = f"http://127.0.0.1:{port}"
    with mlflow_server(tmp_path, store, port) as server:
        process = start_training(tokenized, MLFLOW_TRACKING_URI=address, **IMPATIENT)
        wait_for_epoch(process, 3)
        os.killpg(server.pid, signal.SIGSTOP if fault == "does not answer" else signal.SIGKILL)
        out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert "epoch 60/60" in out
    assert err.count("has stopped answering") == 1, err
    assert "the model of the run 'sentiment GRU' is not recorded" in err
    assert "runs are not sent yet; they are kept in" in err
    assert models(tokenized)
    with mlflow_server(tmp_path, store, port):
        again = train(tokenized, MLFLOW_TRACKING_URI=address)
        assert "MLflow: sent 2 runs that were kept" in again.stderr
        found = runs(tokenized, address)
    assert not list((tokenized.folder / ".cache/unsent").glob("*"))
    assert [run["name"] for run in found] == ["sentiment GRU"] * 2 + ["sentiment GRU fold 0"] * 2
    assert all(run["status"] == "FINISHED" and run["scored"] for run in found)
    for child in found[2:]:
        assert child["epochs"] == list(range(1, 61))
        assert child["parent"] in {run["id"] for run in found[:2]}
    tell(f"MLflow server {fault} in the middle", "training goes on; all metrics kept, sent by the next run; model told")


def test_a_server_lost_before_a_fold_begins(tokenized: Project, tmp_path: Path, tell: Tell) -> None:
    """A run that could not even be created is created, below its parent, when the server is back."""
    tokenized.set("sentiment.split.run_folds", [0, 1])
    tokenized.set("sentiment.train.epochs", 40)
    store, port = f"sqlite:///{tmp_path}/server.db", free_port()
    address = f"http://127.0.0.1:{port}"
    with mlflow_server(tmp_path, store, port) as server:
        process = start_training(tokenized, MLFLOW_TRACKING_URI=address, **IMPATIENT)
        wait_for_epoch(process, 3)
        os.killpg(server.pid, signal.SIGKILL)
        _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    with mlflow_server(tmp_path, store, port):
        project = tokenized.run("unroll", "doctor", "--offline", check=False, MLFLOW_TRACKING_URI=address)
        assert "MLflow: sent 3 runs" in project.stderr
        found = runs(tokenized, address)
    assert [run["name"] for run in found] == ["sentiment GRU", "sentiment GRU fold 0", "sentiment GRU fold 1"]
    assert all(run["status"] == "FINISHED" for run in found)
    assert {run["parent"] for run in found[1:]} == {found[0]["id"]}
    assert [run["epochs"] for run in found[1:]] == [list(range(1, 41))] * 2
    assert dict(found[2]["params"])["fold"] == "1"  # type: ignore[call-overload]
    tell("MLflow server gone before a fold", "the fold's run is made later, with its settings, below its parent")


def test_a_sqlite_store_locked_in_the_middle(tokenized: Project, trained: dict[str, bytes], tell: Tell) -> None:
    tokenized.set("sentiment.train.epochs", 60)
    database = tokenized.folder / "mlflow.db"
    process = start_training(tokenized)
    wait_for_epoch(process, 2)
    with sqlite3.connect(database, timeout=30) as other:
        other.execute("BEGIN EXCLUSIVE")
        out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert "epoch 60/60" in out
    assert err.count("has stopped answering") == 1, err
    assert "Traceback" not in err
    tokenized.run("unroll", "doctor", "--offline", check=False)
    found = runs(tokenized, f"sqlite:///{database}")
    assert [run["status"] for run in found] == ["FINISHED"] * 2
    assert found[1]["epochs"] == list(range(1, 61))
    tell("MLflow's database locked in the middle", "training goes on; all metrics kept and sent later")


def test_a_store_that_cannot_be_opened_stops_before_training(tokenized: Project, tell: Tell) -> None:
    database = tokenized.folder / "mlflow.db"
    train(tokenized)
    with sqlite3.connect(database) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "another program holds its lock" in told(train(tokenized, check=False))
    before = database.read_bytes()
    with sqlite3.connect(database) as old:
        old.execute("UPDATE alembic_version SET version_num = '728d730b5ebd'")
    sentence = told(train(tokenized, check=False))
    assert f"run `mlflow db upgrade sqlite:///{database}`" in sentence
    database.write_bytes(before)
    assert "cannot be opened" in told(
        train(tokenized, check=False, MLFLOW_TRACKING_URI="http://127.0.0.1:9", **IMPATIENT)
    )
    database.write_bytes(before[:5000])
    assert "cannot be opened" in told(train(tokenized, check=False))
    database.unlink()
    done = train(tokenized)  # absent: it is made
    assert "epoch 1/" not in done.stdout
    assert len(runs(tokenized, f"sqlite:///{database}")) == 2
    tell(
        "MLflow store locked, old, damaged, away",
        "train stops before it begins, with what to do",
    )


def test_ctrl_c_says_how_to_go_on(tokenized: Project, trained: dict[str, bytes], tell: Tell) -> None:
    tokenized.set("sentiment.train.epochs", 60)
    process = start_training(tokenized)
    wait_for_epoch(process, 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: run the same command again to continue" in err
    assert "Traceback" not in err
    found = runs(tokenized, f"sqlite:///{tokenized.folder}/mlflow.db")
    assert [run["status"] for run in found] == ["KILLED"] * 2
    done = train(tokenized)
    assert "epoch 3/60" not in done.stdout
    assert "epoch 60/60" in done.stdout
    tell("Ctrl-C in train", "ends with a sentence; the next run goes on after the last finished epoch")
