"""What live and projected runs have in common: names, tags, parameters, and writing them to the store."""

import json
import os
import subprocess
import time
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking.context.registry import resolve_tags

from unroll.tracking.store import experiment_id

PARENT = "mlflow.parentRunId"
OUTPUTS, INPUTS = "outputs_sha256", "inputs_sha256"  # tags: digests of what a run describes, and of what it began from


def name_run(*parts: object) -> str:
    """Return a run's name: its parts and, within a DVC experiment, that experiment's name in brackets."""
    experiment = os.environ.get("DVC_EXP_NAME")
    return " ".join(map(str, parts)) + (f" ({experiment})" if experiment else "")


def workspace_tags() -> dict[str, str]:
    """Return the git commit and the DVC stage and experiment that runs are logged from; "unknown" without git."""
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    variables = {"dvc_stage": "DVC_STAGE", "dvc_experiment": "DVC_EXP_NAME", "dvc_baseline": "DVC_EXP_BASELINE_REV"}
    dirty = "unknown" if changes is None else "yes" if changes else "no"
    found = {tag: os.environ.get(variable, "") for tag, variable in variables.items()}
    return {"git_commit": commit or "unknown", "git_dirty": dirty, **found}


def _git(*arguments: str) -> str | None:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def fold_tags(task: str, cell: str, fold: int, corpus_sha256: str, params: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a fold's run; INPUTS is the sha256 of all that it is trained from but the code.

    `corpus_sha256` and `params` are as in run.json.
    """
    settings = {name: value for name, value in params.items() if name != "split"}
    content = json.dumps([task, cell, fold, corpus_sha256, settings], sort_keys=True)
    inputs = sha256(content.encode()).hexdigest()
    return {"task": task, "cell": cell, "fold": str(fold), "corpus_sha256": corpus_sha256, INPUTS: inputs}


def create_run(experiment: str, name: str, tags: Mapping[str, str]) -> str:
    """Create a run with the tags that are not empty, and return its id."""
    kept = {key: value for key, value in tags.items() if value}
    return str(MlflowClient().create_run(experiment_id(experiment), tags=resolve_tags(kept), run_name=name).info.run_id)


def log_to_run(
    run_id: str,
    *,
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    epoch: int = 0,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log parameters as JSON has them, nested ones as `section.key`, metrics of an epoch or final ones, and tags."""
    now = int(time.time() * 1000)
    nested = json.loads(json.dumps(dict(params or {})))
    flat = pd.json_normalize(nested).to_dict("records")[0] if nested else {}
    MlflowClient().log_batch(
        run_id,
        params=[Param(str(name), str(value)) for name, value in flat.items()],
        metrics=[Metric(name, float(value), now, epoch) for name, value in (metrics or {}).items()],
        tags=[RunTag(name, value) for name, value in (tags or {}).items() if value],
    )


def log_missing_epochs(run_id: str, epochs: Iterable[Mapping[str, float]]) -> None:
    """Log the epochs that a run does not have."""
    known = logged_epochs(run_id)
    for values in epochs:
        if values["epoch"] not in known:
            metrics = {name: value for name, value in values.items() if name != "epoch"}
            log_to_run(run_id, metrics=metrics, epoch=int(values["epoch"]))


def logged_epochs(run_id: str) -> set[int]:
    """Return the epochs whose metrics a run has."""
    return {metric.step for metric in MlflowClient().get_metric_history(run_id, "loss")}


def score_metrics(scores: Mapping[str, float], metric: str) -> dict[str, float]:
    """Return final scores under the names that the table of runs shows: `best_<name>`, and the task's as `score`."""
    named = {name.removeprefix("best_"): value for name, value in scores.items() if name not in ("fold", "digest")}
    return {**{f"best_{name}": value for name, value in named.items()}, "score": scores[metric]}
