"""Where runs go: a server, or the project's own mlflow.db; and what happens when it stops answering."""

import logging
import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import filelock
import mlflow

from unroll.core.errors import UnrollError, warn
from unroll.tracking.outbox import UNREACHABLE, send

PATIENCE = 0.4  # seconds after Ctrl-C
UNSENT = Path(".cache/unsent")  # below the folder that holds mlflow.db


@dataclass
class Store:
    """The open store, and whether it has stopped answering since it was opened."""

    unsent: Path = Path()
    is_down: bool = False
    interrupted: float | None = None

    def tell_down(self, error: Exception) -> None:
        """Say, once, that the store has stopped answering."""
        if not self.is_down:
            self.is_down = True
            warn(
                f"MLflow: {mlflow.get_tracking_uri()} has stopped answering ({said_by(error)}); training goes on, "
                f"and what is to be recorded is kept in {self.unsent}"
            )

    def time_left(self) -> float:
        """Return for how many seconds the open runs of an interrupted program may still be ended, all together."""
        now = time.monotonic()
        self.interrupted = self.interrupted or now
        return max(0.0, self.interrupted + PATIENCE - now)

    def send_kept(self) -> None:
        """Send what was kept while the store did not answer, and say what came of it."""
        if not any(self.unsent.glob("*.jsonl")):
            return
        try:
            sent, refused = send(self.unsent, mlflow.get_tracking_uri(), experiment_id)
        except UNREACHABLE:
            runs = len(list(self.unsent.glob("*.jsonl")))
            warn(
                f"MLflow: {runs} runs are not sent yet; they are kept in {self.unsent}, the next `dvc repro` sends them"
            )
            return
        self.is_down = False
        if sent:
            print(f"MLflow: sent {sent} runs that were kept while it did not answer", file=sys.stderr, flush=True)
        for path in refused:
            warn(f"MLflow: refuses what was kept for a run that it does not have any more; it stays in {path}")


STORE = Store()


def open_store(root: Path) -> None:
    """Point MLflow at MLFLOW_TRACKING_URI, or at the project's own mlflow.db, which is created once, under a lock.

    Args:
        root: the project's folder. Inside the temporary workspace of a queued DVC experiment it is the project that
            the experiment was queued from.

    Raises:
        UnrollError: the store cannot be opened.
    """
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what goes wrong is said here, in a sentence
    mlflow.set_tracking_uri(tracking_uri(root))
    STORE.unsent, STORE.is_down, STORE.interrupted = _home(root) / UNSENT, False, None
    try:
        with one_at_a_time():
            mlflow.search_experiments(max_results=1)
    except UNREACHABLE as error:
        raise UnrollError(f"MLflow: {mlflow.get_tracking_uri()} cannot be opened ({explain(error)})") from None
    STORE.send_kept()


def tracking_uri(root: Path) -> str:
    """Return MLFLOW_TRACKING_URI, or the address of the project's own store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_home(root) / 'mlflow.db'}"


def _home(root: Path) -> Path:
    root = root.resolve()
    for parent in root.parents:
        if parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return parent.parents[2]
    return root


def experiment_id(name: str) -> str:
    """Return the number of an experiment, which is made where there is none of that name."""
    with one_at_a_time():
        found = mlflow.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        database = _database()
        if database is None:
            return str(mlflow.set_experiment(name).experiment_id)  # another process may make it at the same time
        folder = database.parent / "mlartifacts" / name
        return mlflow.create_experiment(name, artifact_location=folder.resolve().as_uri())


def _database() -> Path | None:
    """Return the SQLite file that holds the runs, None where a server holds them."""
    uri = mlflow.get_tracking_uri()
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def one_at_a_time() -> AbstractContextManager[object]:
    """Keep other processes out of a SQLite store: two that create its tables or an experiment at once fail."""
    database = _database()
    return nullcontext() if database is None else filelock.FileLock(f"{database}.lock")


def explain(error: Exception) -> str:
    """Return in a few words why a store does not answer, and what to do."""
    reason = " ".join(str(error).split())
    if "out-of-date database schema" in reason:
        address = mlflow.get_tracking_uri()
        return f"another version of MLflow made it; copy it to be safe, then run `mlflow db upgrade {address}`"
    if "database is locked" in reason:
        return "another program holds its lock; end that one, or wait for it, and run the same command again"
    return f"{reason[:200]}; the variable MLFLOW_TRACKING_URI names it"


def said_by(error: Exception) -> str:
    """Return what an error says, in one line that is not too long."""
    return " ".join(str(error).split())[:200]
