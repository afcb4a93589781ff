"""Sweeps on real Ray and Optuna: on one machine, stopped and gone on with, and on two nodes of which one is killed."""

import importlib.util
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.definitions import load_task
from tests.support.project import ROOT, Project
from unroll.cli.tune import check_space
from unroll.core.errors import UnrollError
from unroll.core.settings import Space, TaskConfig
from unroll.text.corpus import Corpus
from unroll.text.vocabulary import Vocabulary
from unroll.training.fold_data import TrainingData
from unroll.tuning.sweep import Sweep, run_sweep

pytestmark = pytest.mark.slow
needs_ray = pytest.mark.skipif(
    not (importlib.util.find_spec("ray") and importlib.util.find_spec("optuna")),
    reason="Ray and Optuna are not installed: pip install -r requirements-tune.txt",
)

RUNS = """
import json, mlflow
mlflow.set_tracking_uri("sqlite:///mlflow.db")
runs = mlflow.search_runs(experiment_names=["sentiment"], output_format="list")
client = mlflow.MlflowClient()
print(json.dumps([{
    "id": run.info.run_id, "status": run.info.status, "tags": run.data.tags, "params": run.data.params,
    "metrics": run.data.metrics, "epochs": [m.step for m in client.get_metric_history(run.info.run_id, "loss")],
} for run in runs]))
"""


@pytest.fixture
def project(sentiment_project: Project) -> Iterator[Project]:
    """The small project with a space of two settings, put back after the test."""

    def declare(values: dict[str, dict[str, object]]) -> None:
        values["sentiment"]["tune"] = {
            "cell": "GRU", "fold": 0, "grace_period": 1, "reduction_factor": 2,
            "space": {
                "train.lr": {"low": 0.001, "high": 0.1, "log": True},
                "model.hidden": {"choices": [3, 5]},
                "model.layers": {"low": 1, "high": 2, "log": False},
            },
        }  # fmt: skip

    sentiment_project.change_params(declare)
    yield sentiment_project
    sentiment_project.run("git", "checkout", "-q", "HEAD", "--", ".")


def trials_of(project: Project) -> list[dict[str, Any]]:
    """Return the runs of trials, the newest first."""
    found = json.loads(project.run("python", "-c", RUNS).stdout.splitlines()[-1])
    return [run for run in found if "trial_name" in run["tags"]]


@needs_ray
def test_a_sweep_is_remembered_goes_on_and_ends_as_an_experiment(project: Project) -> None:
    project.commit("a space")
    params = (project.folder / "params.yaml").read_bytes()
    first = project.run("unroll", "tune", "sentiment", "--trials", "2").stdout
    assert first.count(" ended: ") == 2
    second = project.run("unroll", "tune", "sentiment", "--trials", "3", "--save").stdout
    assert second.count(" starts") == second.count(" ended: ") == 1, "finished trials are not run again"
    again = project.run("unroll", "tune", "sentiment", "--trials", "3").stdout
    assert " starts" not in again
    assert "best of 3 trials" in again

    runs = trials_of(project)
    assert len(runs) == 3
    assert len({run["params"]["train.lr"] for run in runs}) == 3
    for run in runs:
        assert run["status"] == "FINISHED"
        assert run["tags"]["mlflow.parentRunId"]
        assert run["epochs"][0] == 1
        assert float(run["params"]["train.lr"]) > 0
        assert run["params"]["model.hidden"] in ("3", "5")
    best = max(float(run["metrics"]["score"]) for run in runs)
    assert f"accuracy {best:.4f}" in again

    assert (project.folder / "params.yaml").read_bytes() == params
    name = re.findall(r"--name (\S+)", again)[0]
    shown = json.loads(project.run("dvc", "exp", "show", "--json").stdout)
    experiments = [row for commit in shown for row in commit["experiments"] or []]
    saved = next(row for row in experiments if row["name"] == name)
    values = saved["revs"][0]["data"]["params"]["params.yaml"]["data"]["sentiment"]
    assert f"-S ++sentiment.train.lr={values['train']['lr']}" in again
    assert f"-S ++sentiment.model.hidden={values['model']['hidden']}" in again


@needs_ray
def test_a_sweep_that_is_killed_goes_on(project: Project) -> None:
    project.set("seed", 5)  # a sweep of its own
    project.run("dvc", "repro", "tokenize@sentiment")
    command = ["unroll", "tune", "sentiment", "--trials", "4", "--cpus", "1"]
    sweep = subprocess.Popen(command, cwd=project.folder, env=project.environment(), stdout=subprocess.PIPE, text=True)
    assert sweep.stdout is not None
    finished = 0
    for line in sweep.stdout:
        finished += " ended: " in line
        if finished == 1:
            break
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    sweep.stdout.close()
    out = project.run(*command).stdout
    assert 1 <= out.count(" ended: ") <= 3
    assert "best of 4 trials" in out


@needs_ray
def test_a_sweep_outlives_one_of_two_nodes(project: Project) -> None:
    """Each node has one core and each trial takes one, so both nodes train when the second one is killed."""

    def lengthen(values: dict[str, dict[str, dict[str, object]]]) -> None:
        values["sentiment"]["train"]["epochs"] = 100
        values["sentiment"]["tune"]["grace_period"] = 500

    project.change_params(lengthen)
    nodes = subprocess.Popen(
        [sys.executable, str(ROOT / "tests/support/ray_nodes.py")], env=project.environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert nodes.stdin is not None
    assert nodes.stdout is not None
    try:
        address = nodes.stdout.readline().strip()
        assert ":" in address
        sweep = subprocess.Popen(
            ["unroll", "tune", "sentiment", "--trials", "3", "--address", address],
            cwd=project.folder, env=project.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert sweep.stdout is not None
        lines = []
        for line in sweep.stdout:
            lines.append(line)
            if sum(" starts" in line for line in lines) == 2:
                break
        nodes.stdin.write("kill\n")
        nodes.stdin.flush()
        assert nodes.stdout.readline().strip() == "killed"
        rest, errors = sweep.communicate(timeout=500)
        out = "".join(lines) + rest
        assert sweep.returncode == 0, out + errors
    finally:
        nodes.stdin.close()
        nodes.wait(timeout=60)
        nodes.stdout.close()
    assert "restarts: its process or node was lost" in out
    assert out.count(" ended: ") == 3
    assert "best of 3 trials" in out


def test_a_sweep_without_its_libraries_says_what_to_install(
    small_corpus: tuple[Corpus, Vocabulary],
    task_config: TaskConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corpus, vocabulary = small_corpus
    monkeypatch.setitem(sys.modules, "optuna", None)
    sweep = Sweep(load_task("sentiment"), TrainingData(corpus, "digest", vocabulary, None), task_config, seed=1)
    with pytest.raises(UnrollError, match=r"a sweep needs Ray and Optuna .* pip install -r requirements-tune.txt"):
        run_sweep(sweep, 1, tmp_path, {})
    assert list(tmp_path.iterdir()) == []


def test_a_pretrained_models_shape_is_not_searched(task_config: TaskConfig) -> None:
    def space(choices: list[int]) -> TaskConfig:
        wanted = {"model.hidden": Space(choices=tuple(choices)), "train.lr": Space(low=0.001, high=0.01)}
        return task_config.model_copy(update={"tune": task_config.tune.model_copy(update={"space": wanted})})

    hidden = task_config.model.hidden
    check_space("sentiment", space([hidden]))
    with pytest.raises(
        UnrollError, match=rf"sentiment.tune.space.model.hidden: found \(.*\), expected .* \[{hidden}\]"
    ):
        check_space("sentiment", space([hidden, 2 * hidden]))


@needs_ray
def test_a_cluster_out_of_reach_is_named(project: Project) -> None:
    done = project.run("unroll", "tune", "sentiment", "--trials", "9", "--address", "127.0.0.1:9", check=False)
    assert done.returncode == 1
    assert "error: Ray: 127.0.0.1:9 cannot be reached" in done.stderr
