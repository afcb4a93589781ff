"""Folds in processes of their own, through the stage that a person runs."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import joblib
import psutil
import pytest

from tests.support.project import Project
from unroll.core.errors import UnrollError
from unroll.training import parallel as sidebyside
from unroll.training.parallel import count_jobs

pytestmark = pytest.mark.slow
STAGE = ("-m", "unroll.stages.train", "sentiment", "GRU")


@pytest.fixture
def project(sentiment_project: Project) -> Project:
    shutil.rmtree(sentiment_project.folder / ".cache/folds", ignore_errors=True)
    return sentiment_project


def read_models(project: Project) -> dict[str, bytes]:
    folder = project.folder / "models/sentiment/GRU"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fold_runs(project: Project) -> list[tuple[str, str, int]]:
    """Return fold, status and number of epochs of every fold's run, the newest first."""
    code = (
        "import mlflow; mlflow.set_tracking_uri('sqlite:///mlflow.db'); client = mlflow.MlflowClient()\n"
        "for run in mlflow.search_runs(experiment_names=['sentiment'], filter_string='tags.fold IS NOT NULL', "
        "output_format='list'):\n"
        "    epochs = len(client.get_metric_history(run.info.run_id, 'loss'))\n"
        "    print(run.data.tags['fold'], run.info.status, epochs)"
    )
    lines = project.run("python", "-c", code).stdout.splitlines()
    return [(fold, status, int(epochs)) for fold, status, epochs in map(str.split, lines)]


def begin(project: Project, **variables: str) -> subprocess.Popen[str]:
    environment = project.environment() | {"UNROLL_JOBS": "2"} | variables
    return subprocess.Popen(
        [sys.executable, *STAGE], cwd=project.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler), start_new_session=True,
    )  # fmt: skip


def find_children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the processes that train, or begin to."""
    children = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "spawn_main" in " ".join(child.cmdline()):
                children.append(child)
    return children


def wait_for_children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Wait until the processes that train begin, which takes them seconds."""
    while process.poll() is None:
        children = find_children(process)
        with suppress(psutil.NoSuchProcess):
            if len(children) == 2 and all(child.cpu_times().user > 0.5 for child in children):
                return children  # each in the middle of its imports
        time.sleep(0.05)
    raise AssertionError(f"no children: {process.communicate()}")


def wait_for_epoch(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Wait until a fold has finished an epoch, and return the processes that train."""
    assert process.stdout is not None
    for line in process.stdout:
        if "epoch 1/" in line:
            return find_children(process)
    raise AssertionError(f"no epoch: {process.stderr.read() if process.stderr else ''}")


def test_folds_side_by_side_are_those_trained_one_by_one(project: Project) -> None:
    project.run("python", *STAGE)
    expected = read_models(project)
    shutil.rmtree(project.folder / ".cache/folds")
    done = project.run("python", *STAGE, UNROLL_JOBS="2")
    assert read_models(project) == expected
    assert len(re.findall(r"sentiment GRU fold [02]: epoch 2/2", done.stdout)) == 2
    assert sorted(fold_runs(project)[:2]) == [("0", "FINISHED", 2), ("2", "FINISHED", 2)]
    again = project.run("python", *STAGE, UNROLL_JOBS="2")
    assert "epoch" not in again.stdout, "finished folds are taken from the cache"
    assert read_models(project) == expected


def test_a_mistake_in_a_fold_is_one_sentence(project: Project) -> None:
    params = project.folder / "params.yaml"
    before, before_it = params.read_text(), len(fold_runs(project))
    project.set("sentiment.train.lr", 1e30)
    try:
        done = project.run("python", *STAGE, check=False, UNROLL_JOBS="2")
    finally:
        params.write_text(before)
    assert done.returncode == 1
    assert re.fullmatch(r"error: sentiment GRU fold [02]: the loss is .+; lower train.lr .+\n", done.stderr)
    statuses = sorted(status for _, status, _ in fold_runs(project)[:-before_it])
    assert statuses in (["FAILED", "KILLED"], ["FAILED", "FAILED"], ["FAILED"])


@pytest.fixture
def long_training(project: Project) -> Iterator[Project]:
    params = project.folder / "params.yaml"
    before = params.read_text()
    project.set("sentiment.train.epochs", 12)
    yield project
    params.write_text(before)


@pytest.mark.parametrize("which", [0, -1])
def test_a_fold_whose_process_is_gone_is_said_and_the_next_run_goes_on(long_training: Project, which: int) -> None:
    before = len(fold_runs(long_training))
    process = begin(long_training)
    sorted(wait_for_epoch(process), key=lambda child: child.pid)[which].kill()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: sentiment GRU: a process that trained a fold is gone" in told
    assert "Traceback" not in told
    statuses = [status for _, status, _ in fold_runs(long_training)[:-before]]
    assert statuses in (["KILLED"] * 2, ["KILLED"]), "no fold has failed by a fault of its own"
    done = long_training.run("python", *STAGE, UNROLL_JOBS="2")
    assert done.stdout.count("epoch 12/12") == 2
    assert done.stdout.count("epoch 1/12") < 2


@pytest.mark.parametrize("wait", [wait_for_children, wait_for_epoch])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_the_stage_and_the_next_run_ends_as_if_nothing_had_been(
    long_training: Project, end: signal.Signals, wait: Callable[[subprocess.Popen[str]], list[psutil.Process]]
) -> None:
    long_training.run("python", *STAGE)
    expected = read_models(long_training)
    shutil.rmtree(long_training.folder / ".cache/folds")
    process = begin(long_training)
    children = wait(process)
    assert len(children) == 2
    began = time.monotonic()
    if end == signal.SIGINT:
        os.killpg(process.pid, end)  # as a terminal does: all hear it
    else:
        os.kill(process.pid, end)
    _, told = process.communicate(timeout=60)
    if end == signal.SIGINT:
        assert process.returncode == 130
        assert told == "interrupted: run the same command again to continue\n"
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, f"after {time.monotonic() - began:.0f} s"
    long_training.run("python", *STAGE, UNROLL_JOBS="2")
    assert read_models(long_training) == expected


def test_how_many_folds_train_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("UNROLL_JOBS", raising=False)
    monkeypatch.setattr(sidebyside, "MEMORY_LIMIT", tmp_path / "memory.max")
    monkeypatch.setattr(sidebyside, "trains_on_cpu", lambda: True)
    assert count_jobs(1) == 1
    cores = joblib.cpu_count()
    assert count_jobs(1000) <= cores <= len(os.sched_getaffinity(0))
    monkeypatch.setattr(sidebyside, "MEMORY_OF_A_FOLD", 1)
    assert count_jobs(1000) == cores
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert count_jobs(1000) == 1
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT")
    for limit, jobs in (("2", min(2, cores)), ("1", 1), ("0", 1), ("max", cores)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert count_jobs(1000) == jobs
    monkeypatch.setattr(sidebyside, "trains_on_cpu", lambda: False)
    assert count_jobs(1000) == 1
    monkeypatch.setenv("UNROLL_JOBS", "3")
    assert (count_jobs(2), count_jobs(5)) == (2, 3)
    for wrong in ("0", "-1", "two", ""):
        monkeypatch.setenv("UNROLL_JOBS", wrong)
        with pytest.raises(UnrollError, match=f"UNROLL_JOBS={wrong}: expected how many folds"):
            count_jobs(5)
