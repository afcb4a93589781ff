"""Where runs are stored, and what is said of a store that does not work."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import mlflow
import pytest

from tests.tracking.conftest import reopen
from unroll.core.errors import UnrollError
from unroll.tracking.runs import create_run, log_to_run, name_run, search_runs, workspace_tags
from unroll.tracking.store import experiment_id, open_store, tracking_uri


def test_the_environment_decides_where_runs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert tracking_uri(tmp_path) == "http://127.0.0.1:5000"


def test_opening_a_store_leaves_the_environment_as_it_is(root: Path) -> None:
    assert mlflow.get_tracking_uri() == tracking_uri(root)
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_a_queued_experiment_writes_to_the_project_it_was_queued_from(tmp_path: Path) -> None:
    workspace = tmp_path / ".dvc/tmp/exps/tmp123"
    workspace.mkdir(parents=True)
    assert tracking_uri(workspace) == f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.slow
def test_a_store_is_made_in_a_folder_of_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "a b%20c%2Fd é#e"
    folder.mkdir()
    open_store(folder)
    assert (folder / "mlflow.db").is_file()
    create_run("mood", "a run", {"empty": "", "kept": "yes"})
    (run,) = search_runs("", "mood")
    assert run.info.artifact_uri.startswith((folder / "mlartifacts/mood").as_uri())
    assert run.data.tags["kept"] == "yes"
    assert "empty" not in run.data.tags


def test_locations_that_are_no_projects_own_stay(root: Path, tmp_path: Path) -> None:
    elsewhere = (tmp_path / "elsewhere").as_uri()
    mlflow.create_experiment("other", artifact_location=elsewhere)
    own = experiment_id("mood")
    reopen(root)
    locations = {each.name: each.artifact_location for each in mlflow.search_experiments()}
    assert locations["other"] == elsewhere
    assert locations["mood"] == (root / "mlartifacts/mood").as_uri()
    assert experiment_id("mood") == own


@pytest.mark.slow
def test_four_processes_open_a_fresh_store_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from unroll.tracking.store import open_store\n"
        "from unroll.tracking.runs import create_run; open_store(Path(sys.argv[1])); create_run('mood', 'run', {})"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    errors = [process.communicate()[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, errors
    reopen(tmp_path)
    assert len(search_runs("", "mood")) == 4


def test_a_store_that_does_not_work_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(root / "mlflow.db")) as old, old:
        old.execute("UPDATE alembic_version SET version_num = '728d730b5ebd'")
    copy = root / "copy"  # MLflow remembers the store of a path
    copy.mkdir()
    (root / "mlflow.db").rename(copy / "mlflow.db")
    with pytest.raises(UnrollError, match=r"out-of-date database schema .*mlflow db upgrade"):
        open_store(copy)
    half = root / "half"  # as another program leaves it for a moment, while it makes the tables
    half.mkdir()
    shutil.copyfile(copy / "mlflow.db", half / "mlflow.db")
    with closing(sqlite3.connect(half / "mlflow.db")) as old, old:
        old.execute("UPDATE alembic_version SET version_num = 'b7e2c1a4d9f3'")
        old.execute("DROP TABLE inputs")
    with pytest.raises(UnrollError, match=rf"MLflow: sqlite:///{half}/mlflow.db: cannot be opened .*; try again"):
        open_store(half)
    damaged = root / "damaged"
    damaged.mkdir()
    (damaged / "mlflow.db").write_bytes(b"SQLite format 3\0 and nothing else" * 200)
    with pytest.raises(UnrollError, match=rf"MLflow: sqlite:///{damaged}/mlflow.db: "):
        open_store(damaged)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UnrollError, match=r"MLflow: http://127.0.0.1:9: .*MLFLOW_TRACKING_URI sets the store"):
        open_store(root)


def test_a_run_is_named_after_its_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    assert name_run("mood", "LSTM", "fold", 0) == "mood LSTM fold 0"
    monkeypatch.setenv("DVC_EXP_NAME", "faster")
    assert name_run("mood", "LSTM") == "mood LSTM (faster)"
    assert workspace_tags()["dvc_experiment"] == "faster"


def test_without_git_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    tags = workspace_tags()
    assert (tags["git_commit"], tags["git_dirty"]) == ("unknown", "unknown")


def test_long_values_and_nested_sections_are_logged(root: Path) -> None:
    run_id = create_run("mood", "a run", {})
    log_to_run(run_id, params={"model": {"hidden": 3, "pooling": ["last"]}, "text": "x" * 400})
    params = mlflow.get_run(run_id).data.params
    assert params == {"model.hidden": "3", "model.pooling": "['last']", "text": "x" * 400}
