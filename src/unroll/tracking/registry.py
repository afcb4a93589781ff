"""MLflow's registry of models: the versions of each task, and the alias that says which of them answers."""

from collections.abc import Mapping
from dataclasses import dataclass

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from unroll.core.errors import UnrollError
from unroll.tracking.outbox import UNREACHABLE
from unroll.tracking.store import one_at_a_time, said_by

CHAMPION = "champion"


@dataclass(frozen=True)
class Version:
    """A registered model.

    Attributes:
        number: of the version.
        run_id: the run that it comes from.
        model: its address, which does not change when a name or an alias does.
        tags: what was said of it when it was registered.
    """

    number: str
    run_id: str
    model: str
    tags: Mapping[str, str]


def find_logged_model(experiment: str, run_id: str) -> str | None:
    """Return the address of the model that a run kept, None where it kept none."""
    found = mlflow.get_experiment_by_name(experiment)
    if found is None:
        return None
    models = mlflow.search_logged_models(
        [found.experiment_id],
        filter_string=f"source_run_id = '{run_id}'",
        order_by=[{"field_name": "creation_time", "ascending": False}],
        max_results=1,
        output_format="list",
    )
    return str(models[0].model_uri) if models else None


def register(name: str, model: str, run_id: str, tags: Mapping[str, str]) -> Version:
    """Register a logged model as the next version of a name.

    Raises:
        UnrollError: the store does not take it.
    """
    client = mlflow.MlflowClient()
    try:
        with one_at_a_time():
            if not client.search_registered_models(filter_string=f"name = '{name}'"):
                client.create_registered_model(name)
            made = client.create_model_version(
                name, model, run_id=run_id, tags=dict(tags), model_id=model.removeprefix("models:/")
            )
    except UNREACHABLE as error:
        raise UnrollError(f"MLflow: {name}: the model cannot be registered ({said_by(error)})") from None
    return _version(made)


def list_versions(name: str) -> list[Version]:
    """Return every version of a name, the newest first.

    Raises:
        UnrollError: the store does not answer.
    """
    try:
        found = mlflow.MlflowClient().search_model_versions(f"name = '{name}'")
    except UNREACHABLE as error:
        raise UnrollError(f"MLflow: the versions of {name} cannot be read ({said_by(error)})") from None
    return sorted(map(_version, found), key=lambda version: int(version.number), reverse=True)


def find_champion(name: str) -> Version | None:
    """Return the version that the alias names, None where there is none."""
    try:
        return _version(mlflow.MlflowClient().get_model_version_by_alias(name, CHAMPION))
    except MlflowException:
        return None


def promote(name: str, version: Version) -> None:
    """Move the alias to a version."""
    mlflow.MlflowClient().set_registered_model_alias(name, CHAMPION, version.number)


def _version(found: ModelVersion) -> Version:
    return Version(str(found.version), str(found.run_id), str(found.source), dict(found.tags))
