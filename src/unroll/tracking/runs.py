"""Runs and model versions in the store: written, found and read. They raise UnrollError where the store fails."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.entities import Run as Run  # for commands, which do not import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.validation import MAX_METRICS_PER_BATCH

from unroll.core.errors import UnrollError
from unroll.tracking.store import experiment_id, store_errors

PARENT = "mlflow.parentRunId"
OUTPUTS = "outputs_sha256"  # tag: the digest of the files that a run describes
PREDICTIONS = Path("predictions/out_of_fold.parquet")  # among a run's artifacts
PRETRAINED = "pretrained"  # the tag `fold` of a run on a corpus
CHAMPION = "champion"  # an alias
FINISHED = "attributes.status = 'FINISHED'"


def name_run(*parts: object) -> str:
    """Return a run's name: its parts and, within a DVC experiment, that experiment's name in brackets."""
    experiment = os.environ.get("DVC_EXP_NAME")
    return " ".join(map(str, parts)) + (f" ({experiment})" if experiment else "")


def describe_fold(
    task: str, cell: str, fold: int | None, corpus_sha256: str, params: Mapping[str, Any]
) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Return the name, the tags and the parameters of a fold's run, or with None of a training on a corpus."""
    name = name_run(task, cell, PRETRAINED) if fold is None else name_run(task, cell, "fold", fold)
    number = PRETRAINED if fold is None else str(fold)
    tags = {"task": task, "cell": cell, "fold": number, "corpus_sha256": corpus_sha256}
    return name, tags, {**params, "cell": cell, **({} if fold is None else {"fold": fold})}


def workspace_tags() -> dict[str, str]:
    """Return the git commit and the DVC stage and experiment that runs are logged from; "unknown" without git."""
    try:
        commit, changes = (
            subprocess.run(["git", *command.split()], capture_output=True, text=True, check=True).stdout.strip()
            for command in ("rev-parse HEAD", "status --porcelain --untracked-files=no")
        )
        dirty = "yes" if changes else "no"
    except (OSError, subprocess.CalledProcessError):
        commit = dirty = "unknown"
    variables = {"dvc_stage": "DVC_STAGE", "dvc_experiment": "DVC_EXP_NAME", "dvc_baseline": "DVC_EXP_BASELINE_REV"}
    found = {tag: os.environ.get(variable, "") for tag, variable in variables.items()}
    return {"git_commit": commit, "git_dirty": dirty, **found}


def create_run(experiment: str, name: str, tags: Mapping[str, str]) -> str:
    """Create a run with the tags that are not empty, and return its id."""
    kept = {key: value for key, value in tags.items() if value}
    return str(MlflowClient().create_run(experiment_id(experiment), tags=resolve_tags(kept), run_name=name).info.run_id)


def log_to_run(
    run_id: str,
    *,
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log parameters as JSON has them, nested ones as `section.key`, final metrics, and tags."""
    now = int(time.time() * 1000)
    nested = json.loads(json.dumps(dict(params or {})))
    flat = pd.json_normalize(nested).to_dict("records")[0] if nested else {}
    with store_errors():
        MlflowClient().log_batch(
            run_id,
            params=[Param(str(name), str(value)) for name, value in flat.items()],
            metrics=[Metric(name, float(value), now, 0) for name, value in (metrics or {}).items()],
            tags=[RunTag(name, value) for name, value in (tags or {}).items() if value],
        )


def log_epochs(run_id: str, known: set[int], epochs: Sequence[Mapping[str, float]]) -> None:
    """Log the metrics of epochs, each with its number among them, that are not known."""
    now = int(time.time() * 1000)
    new = [values for values in epochs if int(values["epoch"]) not in known]
    pairs = [(values, name) for values in new for name in values if name != "epoch"]
    metrics = [Metric(name, float(values[name]), now, int(values["epoch"])) for values, name in pairs]
    with store_errors():
        for first in range(0, len(metrics), MAX_METRICS_PER_BATCH):
            MlflowClient().log_batch(run_id, metrics=metrics[first : first + MAX_METRICS_PER_BATCH])


def logged_epochs(run_id: str) -> set[int]:
    """Return the epochs whose metrics a run has."""
    return {metric.step for metric in MlflowClient().get_metric_history(run_id, "loss")}


def score_metrics(scores: Mapping[str, float], metric: str) -> dict[str, float]:
    """Return final scores as the table of runs shows them: `best_<name>`, and the metric's, if any, as `score`."""
    named = {name.removeprefix("best_"): value for name, value in scores.items() if name not in ("fold", "digest")}
    found = {f"best_{name}": value for name, value in named.items()}
    return {**found, "score": scores[metric]} if metric in scores else found


def search_runs(wanted: str, experiment: str | None = None, *, most: int = 1000) -> list[Run]:
    """Return the runs that a filter in MLflow's syntax selects, the newest first, in one experiment or in all."""
    with store_errors():
        if experiment is not None and mlflow.get_experiment_by_name(experiment) is None:
            return []
        found = mlflow.search_runs(
            experiment_names=None if experiment is None else [experiment],
            search_all_experiments=experiment is None,
            filter_string=wanted,
            order_by=["attributes.start_time DESC"],
            max_results=most,
            output_format="list",
        )
        return list(found)


def find_run(experiment: str, outputs_sha256: str) -> Run | None:
    """Return the newest finished run of a cell or an ensemble with outputs of this digest, None if there is none."""
    wanted = f"tags.{OUTPUTS} = '{outputs_sha256}' AND tags.fold IS NULL AND {FINISHED}"
    return next(iter(search_runs(wanted, experiment, most=1)), None)


def look_up(name: str) -> Run:
    """Return the run with an id, or the newest finished one with a name; UnrollError if there is none."""
    quoted = f'"{name}"' if '"' not in name else f"'{name}'"
    filters = (f"attributes.run_id = {quoted}", f"attributes.run_name = {quoted} AND {FINISHED}")
    for wanted in filters if not {'"', "'"} <= set(name) else ():  # a filter cannot hold both
        if found := search_runs(wanted, most=1):
            return found[0]
    raise UnrollError(
        f"run {name}: {mlflow.get_tracking_uri()} has no finished run with that id or name; `unroll ui` shows them; "
        "a model in the workspace is task/cell, as in sentiment/LSTM"
    )


def read_predictions(run_id: str) -> pd.DataFrame | None:
    """Return a run's out-of-fold predictions with the rows they are for, None if the run has none or is gone."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            return pd.read_parquet(MlflowClient().download_artifacts(run_id, str(PREDICTIONS), folder))
    except (MlflowException, OSError):
        return None


def attach_figures(run_id: str, files: list[Path]) -> None:
    """Add figures to a finished run; the newest of each name stays."""
    with store_errors():
        for file in files:
            MlflowClient().log_artifact(run_id, str(file.resolve()), "figures")


def list_versions(name: str) -> list[ModelVersion]:
    """Return every version of a registered model, the newest first."""
    with store_errors():
        found = MlflowClient().search_model_versions(f"name = '{name}'")
    return sorted(found, key=lambda version: int(version.version), reverse=True)


def find_champion(name: str) -> ModelVersion | None:
    """Return the version with the alias `champion`, None if there is none."""
    try:
        return MlflowClient().get_model_version_by_alias(name, CHAMPION)
    except MlflowException:
        return None


def download_model(version: ModelVersion, folder: Path) -> Path:
    """Copy the model of a version into a folder, and return where it is."""
    with store_errors():
        uri = f"models:/{version.name}/{version.version}"
        return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))
