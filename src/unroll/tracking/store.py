"""Where runs are stored: MLFLOW_TRACKING_URI, or mlflow.db in the project's folder with mlartifacts/ beside it."""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote, unquote

import filelock
import mlflow
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from unroll.core.errors import UnrollError, brief

SQLITE, DATABASE, ARTIFACTS = "sqlite:///", "mlflow.db", "mlartifacts"
LOCATIONS = {  # the columns of MLflow's tables that hold artifact locations
    "experiments": "artifact_location", "runs": "artifact_uri", "logged_models": "artifact_location",
    "model_versions": "storage_location",
}  # fmt: skip


def open_store(root: Path) -> None:
    """Point MLflow at the store of a project; a SQLite file is created if need be, and follows a moved project.

    Inside the workspace of a queued DVC experiment, it is the store of the project that queued the experiment.

    Raises:
        UnrollError: the store cannot be opened.
    """
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    is_given = "MLFLOW_TRACKING_URI" in os.environ
    mlflow.set_tracking_uri(tracking_uri(root))
    if not is_given:
        os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow sets it, and it would name the store of another project
    try:
        with store_errors(), store_lock():
            mlflow.search_experiments(max_results=1)
            _relocate_artifacts()
    except UnrollError:
        raise
    except Exception as error:  # noqa: BLE001 MLflow's migrations raise anything where another program makes the tables too
        raise UnrollError(
            f"MLflow: {mlflow.get_tracking_uri()}: cannot be opened ({brief(error)}); try again"
        ) from None


def tracking_uri(root: Path) -> str:
    """Return MLFLOW_TRACKING_URI, or the URI of the project's own store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{quote(str(_home(root) / DATABASE))}"


def experiment_id(name: str) -> str:
    """Return the id of an experiment, which is created if there is none of that name."""
    database = _database()
    with store_lock():
        found = mlflow.get_experiment_by_name(name)
        if found is None:
            try:
                place = f"{_artifacts(database)}/{quote(name)}" if database else None
                return mlflow.create_experiment(name, artifact_location=place)
            except MlflowException:  # another machine may have created it on the server since
                found = mlflow.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)


def store_lock(purpose: str = "") -> filelock.BaseFileLock:
    """Return a lock between processes: MLflow fails when two of them create tables or an experiment at once."""
    return filelock.FileLock(f"{_database() or _home(Path.cwd()) / DATABASE}{purpose}.lock")


@contextmanager
def store_errors() -> Iterator[None]:
    """Raise UnrollError, with what to do about it, for an error of the store."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        where = f"{mlflow.get_tracking_uri()}: {brief(error, 300)}"
        raise UnrollError(f"MLflow: {where} (MLFLOW_TRACKING_URI sets the store)") from None


def _home(root: Path) -> Path:
    root = root.resolve()
    queued = (parent for parent in root.parents if parent.parts[-3:] == (".dvc", "tmp", "exps"))
    return next((parent.parents[2] for parent in queued), root)


def _database() -> Path | None:
    """Return the SQLite file of the store, None if a server has it."""
    uri = mlflow.get_tracking_uri()
    return Path(unquote(uri.removeprefix(SQLITE))) if uri.startswith(SQLITE) else None


def _artifacts(database: Path) -> str:
    return (database.resolve().parent / ARTIFACTS).as_uri()


def _relocate_artifacts() -> None:
    """Rewrite artifact locations, which MLflow stores as absolute URIs, where the project was moved or copied."""
    database = _database()
    if database is None:
        return
    here = _artifacts(database)
    with closing(sqlite3.connect(database)) as connection, connection:
        for name, location in connection.execute("SELECT name, artifact_location FROM experiments").fetchall():
            old = str(location).removesuffix(f"/{quote(name)}")
            if old in (here, location) or not old.endswith(f"/{ARTIFACTS}"):
                continue
            for table, column in LOCATIONS.items():
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",  # noqa: S608
                    (here, len(old) + 1, len(old) + 1, f"{old}/"),
                )
