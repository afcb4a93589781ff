"""An MLflow store that is away when a training begins, or stops responding in the middle of it."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_serve import free_port
from tests.faults.conftest import Tell, models, train
from tests.support.project import Project

pytestmark = [pytest.mark.slow, pytest.mark.faults]

# By default MLflow waits for a server a minute in all.
IMPATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
EPOCHS = 150
RUNS = """
import json, mlflow, pathlib
from unroll.tracking.store import open_store
open_store(pathlib.Path.cwd())  # which waits for another process that makes the tables
client = mlflow.MlflowClient()
found = mlflow.search_runs(search_all_experiments=True, output_format="list")
print(json.dumps([{
    "name": run.info.run_name, "id": run.info.run_id, "status": run.info.status,
    "parent": run.data.tags.get("mlflow.parentRunId"), "params": run.data.params,
    "epochs": [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")],
} for run in found]))
"""


def runs(project: Project, store: str) -> list[dict[str, Any]]:
    printed = project.run("python", "-c", RUNS, MLFLOW_TRACKING_URI=store).stdout
    return sorted(json.loads(printed.splitlines()[-1]), key=lambda run: str(run["name"]))


@contextmanager
def mlflow_server(folder: Path, port: int, store: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """Run `mlflow server` in a process group of its own, until the block ends."""
    store = store or f"sqlite:///{folder}/server.db"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store,
               "--port", str(port), "--workers", "1", "--artifacts-destination", str(folder / "artifacts")]  # fmt: skip
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(1200):
            assert process.poll() is None, (folder / "server.log").read_text()
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).read()
                break
            time.sleep(0.1)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a stopped one dies of it too
        process.wait()


def start_training(project: Project, **variables: str) -> subprocess.Popen[str]:
    project.set("sentiment.train.epochs", EPOCHS)
    return subprocess.Popen(
        [sys.executable, "-m", "unroll.stages.train", "sentiment", "GRU"], cwd=project.folder, text=True,
        env=project.environment() | variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def wait_for_run(project: Project, process: subprocess.Popen[str], store: str) -> None:
    """Wait until the store has an epoch of the fold."""
    while not any(run["epochs"] for run in runs(project, store)):
        assert process.poll() is None, process.communicate()[1]


def finish(project: Project, process: subprocess.Popen[str]) -> None:
    """Wait for a training whose store failed, and run the stages after it."""
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert err.count("training goes on, and `unroll track` logs what is missing") == err.count("warning: ") == 1, err
    assert "Traceback" not in err
    project.set("cells", ["GRU"])
    project.run("python", "-m", "unroll.stages.ensemble", "sentiment")


def assert_complete(found: list[dict[str, Any]]) -> None:
    """Assert that every run is there once, with all that describes it, beside the one that was cut off."""
    (cut_off,) = (run for run in found if run["status"] == "RUNNING")
    assert cut_off["name"] == "sentiment GRU fold 0"
    found = [run for run in found if run is not cut_off]
    assert [run["name"] for run in found] == ["sentiment GRU", "sentiment GRU fold 0", "sentiment ensemble"]
    assert {run["status"] for run in found} == {"FINISHED"}
    assert found[1]["parent"] == found[0]["id"]
    assert found[1]["epochs"] == found[0]["epochs"] == list(range(1, EPOCHS + 1))
    assert found[1]["params"]["fold"] == "0"


@pytest.mark.parametrize("fault", ["does not respond", "is gone"])
def test_a_server_lost_in_the_middle_of_a_training(tokenized: Project, tmp_path: Path, tell: Tell, fault: str) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with mlflow_server(tmp_path, port) as server:
        process = start_training(tokenized, MLFLOW_TRACKING_URI=address, **IMPATIENT)
        wait_for_run(tokenized, process, address)
        os.killpg(server.pid, signal.SIGSTOP if fault == "does not respond" else signal.SIGKILL)
        finish(tokenized, process)
    with mlflow_server(tmp_path, port):
        tokenized.run("python", "-m", "unroll.stages.evaluate", "sentiment", MLFLOW_TRACKING_URI=address)
        assert_complete(runs(tokenized, address))
    tell(f"MLflow server {fault}", "one warning; the fold is logged anew from the outputs")


def test_a_sqlite_store_locked_in_the_middle(tokenized: Project, tell: Tell) -> None:
    store = f"sqlite:///{tokenized.folder}/mlflow.db"
    process = start_training(tokenized)
    wait_for_run(tokenized, process, store)
    with closing(sqlite3.connect(tokenized.folder / "mlflow.db", timeout=30)) as other:
        other.execute("BEGIN EXCLUSIVE")
        finish(tokenized, process)
    tokenized.run("python", "-m", "unroll.stages.evaluate", "sentiment")
    assert_complete(runs(tokenized, store))
    tell("MLflow's database locked in the middle", "one warning; the fold is logged anew from the outputs")


def test_a_store_that_is_away_stops_no_stage(tokenized: Project, trained: dict[str, bytes], tell: Tell) -> None:
    away = "http://127.0.0.1:9"
    done = train(tokenized, MLFLOW_TRACKING_URI=away, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert done.stderr.count("warning: MLflow: http://127.0.0.1:9: ") == 1
    assert models(tokenized) == trained
    tokenized.set("cells", ["GRU"])
    tokenized.run("python", "-m", "unroll.stages.ensemble", "sentiment")
    done = tokenized.run("python", "-m", "unroll.stages.evaluate", "sentiment", MLFLOW_TRACKING_URI=away)
    assert "the runs are not logged, `unroll track sentiment` logs them later" in done.stderr
    assert "Traceback" not in done.stderr
    printed = tokenized.run("unroll", "track", "sentiment").stdout
    assert printed.startswith("sentiment: logged to MLflow: GRU fold 0, GRU, ensemble")
    tell("MLflow store away from the beginning", "a warning a stage; `unroll track` logs everything later")


def test_a_resumed_fold_continues_its_run(tokenized: Project, tell: Tell) -> None:
    store = f"sqlite:///{tokenized.folder}/mlflow.db"
    process = start_training(tokenized)
    wait_for_run(tokenized, process, store)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: run the same command again to continue" in err
    assert "Traceback" not in err
    assert [run["status"] for run in runs(tokenized, store)] == ["RUNNING"]
    train(tokenized)
    (run,) = runs(tokenized, store)
    assert run["status"] == "FINISHED"
    assert run["epochs"] == list(range(1, EPOCHS + 1))
    tell("Ctrl-C in train", "ends with a sentence; the next run goes on after the last epoch, in the same MLflow run")
