"""Runs that have ended: found, read and added to."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException

from unroll.core.errors import UnrollError, warn
from unroll.tracking.outbox import PARENT, UNREACHABLE
from unroll.tracking.store import explain, said_by

ID_BEGINNING = re.compile("[0-9a-f]{4,31}")
PREDICTIONS = Path("predictions/out_of_fold.parquet")  # among a run's artifacts


@dataclass(frozen=True)
class RunInfo:
    """What the store says of a run that has ended."""

    id: str
    name: str
    started: datetime
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]


def find_run(experiment: str, bundle_digest: str) -> str | None:
    """Return the id of the newest run that made a model folder of this digest, None where none is remembered.

    Raises:
        UnrollError: the store has stopped answering.
    """
    try:
        if mlflow.get_experiment_by_name(experiment) is None:
            return None
        found = mlflow.search_runs(
            experiment_names=[experiment],
            filter_string=f"tags.bundle_sha256 = '{bundle_digest}'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
            output_format="list",
        )
    except UNREACHABLE as error:
        raise UnrollError(f"MLflow: {mlflow.get_tracking_uri()} has stopped answering ({explain(error)})") from None
    return str(found[0].info.run_id) if found else None


def list_runs(experiment: str, most: int) -> list[RunInfo]:
    """Return the newest runs of an experiment that are no fold of another run, the newest first."""
    if mlflow.get_experiment_by_name(experiment) is None:
        return []
    found = mlflow.search_runs(
        experiment_names=[experiment],
        filter_string="attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=most * 10,
        output_format="list",
    )
    return [_past(run) for run in found if PARENT not in run.data.tags][:most]


def look_up(named: str) -> RunInfo:
    """Return the run with an id, the newest finished one with a name, or the one whose id begins so.

    Raises:
        UnrollError: there is none, or several ids begin so.
    """
    quoted = f'"{named}"' if '"' not in named else f"'{named}'"
    looked = [f"attributes.run_id = {quoted}", f"attributes.run_name = {quoted} AND attributes.status = 'FINISHED'"]
    if ID_BEGINNING.fullmatch(named):
        looked.append(f"attributes.run_id LIKE '{named}%'")
    for place, wanted in enumerate(looked):
        found = _search_all(wanted, most=2)
        if len(found) > 1 and place == 2:
            ids = " and ".join(run.info.run_id for run in found)
            raise UnrollError(f"run {named}: {ids} begin so; give more of the id")
        if found:
            return get_run(found[0].info.run_id)
    raise UnrollError(
        f"run {named}: MLflow at {mlflow.get_tracking_uri()} knows no finished run of that id or name; `make ui` shows "
        "them, and task/cell, as in sentiment/LSTM, is the model that stands here"
    )


def get_run(run_id: str) -> RunInfo:
    """Return a run by its whole id."""
    return _past(mlflow.get_run(run_id))


def _past(run: mlflow.entities.Run) -> RunInfo:
    started = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
    data = run.data
    return RunInfo(
        run.info.run_id, str(run.info.run_name), started, dict(data.params), dict(data.tags), dict(data.metrics)
    )


def _search_all(wanted: str, most: int) -> list[mlflow.entities.Run]:
    try:
        found = mlflow.search_runs(
            search_all_experiments=True,
            filter_string=wanted,
            order_by=["attributes.start_time DESC"],
            max_results=most,
            output_format="list",
        )
    except MlflowException:  # a name with quotes of both kinds, which its language cannot say
        return []
    return list(found)


def read_tags(run_id: str) -> dict[str, str]:
    """Return the tags of a run."""
    return dict(mlflow.get_run(run_id).data.tags)


def add_to_run(run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
    """Add metrics and tags to a run that has ended.

    Raises:
        UnrollError: the store does not take them.
    """
    client = mlflow.MlflowClient()
    try:
        for name, value in metrics.items():
            client.log_metric(run_id, name, value)
        for name, text in tags.items():
            client.set_tag(run_id, name, text)
    except UNREACHABLE as error:
        raise UnrollError(f"MLflow: run {run_id}: {said_by(error)}") from None


def read_predictions(run_id: str) -> pd.DataFrame | None:
    """Return what `Run.log_predictions` kept, None where the run kept nothing or it is no longer there."""
    client = mlflow.MlflowClient()
    try:
        if not any(file.path == str(PREDICTIONS) for file in client.list_artifacts(run_id, str(PREDICTIONS.parent))):
            return None
        with tempfile.TemporaryDirectory() as folder:
            return pd.read_parquet(client.download_artifacts(run_id, str(PREDICTIONS), folder))
    except (MlflowException, OSError):
        return None


def attach_files(run_id: str, folder: str, files: list[Path]) -> None:
    """Add files to a run that has ended; where the store does not take them, that is said."""
    client = mlflow.MlflowClient()
    try:
        for file in files:
            client.log_artifact(run_id, str(file), folder)
    except UNREACHABLE as error:
        warn(f"MLflow: files in {folder}/ are not recorded with the run {run_id} ({explain(error)})")
