"""Runs and model versions that the store has: found, read, and added to. Where it fails, they raise UnrollError."""

import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from unroll.core.errors import UnrollError
from unroll.tracking.runs import OUTPUTS, PARENT, log_to_run
from unroll.tracking.store import store_errors

CHAMPION = "champion"
PREDICTIONS = Path("predictions/out_of_fold.parquet")  # among a run's artifacts
FINISHED = "attributes.status = 'FINISHED'"


@dataclass(frozen=True)
class RunInfo:
    """A run as the store has it."""

    id: str
    name: str
    started: datetime
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]

    @classmethod
    def of(cls, run: Run) -> "RunInfo":
        """Return what MLflow says of a run."""
        started, data = datetime.fromtimestamp(run.info.start_time / 1000, UTC), run.data
        return cls(run.info.run_id, str(run.info.run_name), started, data.params, data.tags, data.metrics)


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


def find_run(experiment: str, outputs_sha256: str) -> str | None:
    """Return the id of the newest finished run of a cell or an ensemble with outputs of this digest."""
    wanted = f"tags.{OUTPUTS} = '{outputs_sha256}' AND tags.fold IS NULL AND {FINISHED}"
    return next((str(run.info.run_id) for run in search_runs(wanted, experiment, most=1)), None)


def list_runs(experiment: str, most: int) -> list[RunInfo]:
    """Return the newest finished runs of an experiment that have no parent, the newest first."""
    found = search_runs(FINISHED, experiment, most=most * 10)
    return [RunInfo.of(run) for run in found if PARENT not in run.data.tags][:most]


def look_up(name: str) -> RunInfo:
    """Return the run with an id, the newest finished one with a name, or the one with an id prefix.

    Raises:
        UnrollError: there is none, or several ids have that prefix.
    """
    quoted = f'"{name}"' if '"' not in name else f"'{name}'"
    filters = [f"attributes.run_id = {quoted}", f"attributes.run_name = {quoted} AND {FINISHED}"]
    if re.fullmatch("[0-9a-f]{4,31}", name):
        filters.append(f"attributes.run_id LIKE '{name}%'")
    for wanted in filters if not {'"', "'"} <= set(name) else ():  # a filter cannot hold both
        found = search_runs(wanted, most=2)
        if len(found) > 1 and "LIKE" in wanted:
            ids = " and ".join(run.info.run_id for run in found)
            raise UnrollError(f"run {name}: ambiguous id prefix, found {ids}; give more characters")
        if found:
            return RunInfo.of(found[0])
    raise UnrollError(
        f"run {name}: {mlflow.get_tracking_uri()} has no finished run with that id or name; `unroll ui` shows them; "
        "a model in the workspace is task/cell, as in sentiment/LSTM"
    )


def get_run(run_id: str) -> RunInfo:
    """Return a run by its whole id."""
    with store_errors():
        return RunInfo.of(mlflow.get_run(run_id))


def read_predictions(run_id: str) -> pd.DataFrame | None:
    """Return a run's out-of-fold predictions with the rows they are for, None if the run has none or is gone."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            return pd.read_parquet(MlflowClient().download_artifacts(run_id, str(PREDICTIONS), folder))
    except (MlflowException, OSError):
        return None


def add_to_run(run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
    """Add metrics and tags to a finished run."""
    with store_errors():
        log_to_run(run_id, metrics=metrics, tags=tags)


def attach_figures(run_id: str, files: Iterable[Path]) -> None:
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
