"""Many programs at once on one store."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Tell, models
from tests.faults.test_store import mlflow_server, runs
from tests.support.project import Project

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def train_eight(tokenized: Project, store: str) -> None:
    """Train in eight processes at once, each in a project of its own, all on one store."""
    folders = [tokenized.folder.parent / f"project-{number}" for number in range(8)]
    for folder in folders:
        shutil.copytree(tokenized.folder, folder, symlinks=True)
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "unroll.stages.train", "sentiment", "GRU"], cwd=folder, text=True,
            env=Project(folder).environment() | {"MLFLOW_TRACKING_URI": store},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for folder in folders
    ]  # fmt: skip
    said = [process.communicate(timeout=500)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, said
    assert not [text for text in said if "warning" in text or "Traceback" in text], said
    found = runs(tokenized, store)
    assert [run["name"] for run in found] == ["sentiment GRU fold 0"] * 8
    assert all(run["status"] == "FINISHED" and run["epochs"] == [1, 2, 3, 4] for run in found)
    first = models(Project(folders[0]))
    assert all(models(Project(folder)) == first for folder in folders)


def test_eight_trainings_on_one_fresh_sqlite_store(tokenized: Project, tmp_path: Path, tell: Tell) -> None:
    train_eight(tokenized, f"sqlite:///{tmp_path}/fresh.db")
    tell("eight trainings, one fresh SQLite store", "eight whole runs, the same weights")


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The address of a database of a PostgreSQL of the test's own, from Debian's package."""
    pytest.importorskip("psycopg2", reason="psycopg2-binary is not installed")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    as_user: list[str] = []
    # Not below pytest's own folder, into which another user may not go.
    folder = Path(tempfile.mkdtemp(prefix="unroll-postgresql-"))
    if os.geteuid() == 0:  # it refuses to run as root
        if shutil.which("runuser") is None or subprocess.run(["id", "postgres"], capture_output=True).returncode:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]

    def call(*command: str) -> str | None:
        """Run a program of PostgreSQL; return what it said where it failed."""
        with (folder / "said").open("w") as said:
            done = subprocess.run(
                [*as_user, str(found[-1] / command[0]), *command[1:]], cwd=folder, text=True,
                stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
            )  # fmt: skip
        return (folder / "said").read_text()[-300:] if done.returncode else None

    data = str(folder / "data")
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
    try:
        for command in (
            ("initdb", "--pgdata", data, "--auth", "trust", "--username", "unroll", "--no-sync"),
            ("pg_ctl", "--pgdata", data, "--wait", "--log", str(folder / "log"), "-o", options, "start"),
            ("createdb", "--host", "127.0.0.1", "--port", str(port), "--username", "unroll", "runs"),
        ):
            if failed := call(*command):
                pytest.skip(f"PostgreSQL does not start here: {failed}")
        yield f"postgresql+psycopg2://unroll@127.0.0.1:{port}/runs"
    finally:
        call("pg_ctl", "--pgdata", data, "--wait", "--mode", "immediate", "stop")
        shutil.rmtree(folder)


def test_eight_trainings_on_a_server_with_postgresql(
    tokenized: Project, tmp_path: Path, postgresql: str, tell: Tell
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with mlflow_server(tmp_path, port, postgresql):
        train_eight(tokenized, f"http://127.0.0.1:{port}")
    tell("eight trainings, mlflow server on PostgreSQL", "eight whole runs, the same weights")


def test_two_experiments_from_the_queue_at_once(small_project: Project, tell: Tell) -> None:
    small_project.run("git", "checkout", "-q", "HEAD", "--", ".")
    for rate in ("0.011", "0.012"):
        small_project.run("dvc", "exp", "run", "--queue", "-n", f"rate-{rate[2:]}", "-S", f"++surnames.train.lr={rate}")
    small_project.run("dvc", "exp", "run", "--run-all", "--jobs", "2")
    shown = small_project.run("dvc", "exp", "list", "--name-only").stdout.split()
    assert {"rate-011", "rate-012"} <= set(shown)
    found = runs(small_project, f"sqlite:///{small_project.folder}/mlflow.db")
    rates = [run["params"].get("train.lr") for run in found if "fold 0" in run["name"]]
    assert rates.count("0.011") == rates.count("0.012") == 3
    assert {run["status"] for run in found} == {"FINISHED"}
    tell("two `dvc exp run` from the queue at once", "both end well, their runs in one store")
