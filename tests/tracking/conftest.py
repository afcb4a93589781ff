"""Stores to test on: making one takes seconds, so it is made once and copied."""

import os
import shutil
from pathlib import Path

import pytest
from mlflow.tracking._tracking_service import utils

from tests.support.outputs import outputs_in, write_outputs
from unroll.tracking.projection import TaskOutputs, project_task
from unroll.tracking.store import open_store


@pytest.fixture(autouse=True, scope="session")
def _no_tracking_uri() -> None:
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder with an empty store."""
    folder = tmp_path_factory.mktemp("empty")
    open_store(folder)
    return folder


@pytest.fixture(scope="session")
def projected_folder(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder with outputs that have been projected."""
    folder = tmp_path_factory.mktemp("projected")
    shutil.copyfile(empty_store / "mlflow.db", folder / "mlflow.db")
    open_store(folder)
    project_task(write_outputs(folder))
    return folder


def reopen(folder: Path) -> None:
    """Open the store of a folder as a new process does, without what MLflow remembers of artifacts by run id."""
    utils._artifact_repos_cache.clear()
    open_store(folder)


@pytest.fixture
def root(empty_store: Path, tmp_path: Path) -> Path:
    """A project's folder whose store is open and empty."""
    shutil.copyfile(empty_store / "mlflow.db", tmp_path / "mlflow.db")
    reopen(tmp_path)
    return tmp_path


@pytest.fixture
def projected(projected_folder: Path, tmp_path: Path) -> TaskOutputs:
    """Outputs whose runs the open store has: a copy of a project that was projected elsewhere."""
    folder = tmp_path / "a copy %20 %2F #1"
    shutil.copytree(projected_folder, folder)
    reopen(folder)
    return outputs_in(folder)
