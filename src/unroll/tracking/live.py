"""Runs logged while training goes on. A store that fails costs one warning; what it lacks is projected afterwards."""

import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from unroll.core.errors import UnrollError, warn
from unroll.tracking import runs
from unroll.tracking.runs import OUTPUTS
from unroll.tracking.store import open_store, store_errors
from unroll.training.parallel import FoldListener
from unroll.training.state import EpochRecord


@dataclass
class LiveRun:
    """A run that is written to as long as the store works; it may be pickled before it begins."""

    root: Path  # the project's folder
    # file that exists once the store has failed: of the processes that share it, one warns and all stop
    marker: Path = field(default_factory=lambda: Path(tempfile.gettempdir(), f"unroll-{uuid.uuid4().hex}.failed"))
    id: str | None = None  # of the run; None before it begins and after the store has failed
    epochs: set[int] = field(default_factory=set)  # those that the run had when it was continued

    def begin(
        self, experiment: str, name: str, tags: Mapping[str, str], params: Mapping[str, Any], run_id: str | None = None
    ) -> None:
        """Continue the run with the id, or create one if the store does not have it."""
        self.id, self.epochs = None, set()
        if self.marker.exists():
            return
        with self.working():
            open_store(self.root)
            if run_id is not None and runs.search_runs(f"attributes.run_id = '{run_id}'", experiment):
                MlflowClient().update_run(run_id, status="RUNNING")
                self.epochs = runs.logged_epochs(run_id)
            else:
                run_id = runs.create_run(experiment, name, tags)
                runs.log_to_run(run_id, params=params)
            self.id = run_id

    def end(self, status: str = "FINISHED", **values: Any) -> None:
        """Log what `log_to_run` takes, and set the final status."""
        if self.id is not None:
            with self.working():
                runs.log_to_run(self.id, **values)
                MlflowClient().set_terminated(self.id, status)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Turn an error of the store into a warning, and write no more to this run."""
        try:
            with store_errors():
                yield
        except UnrollError as error:
            self.id = None
            with suppress(FileExistsError):  # another process has warned
                self.marker.touch(exist_ok=False)
                warn(f"{error}; training goes on, and `unroll track` logs what is missing")


@dataclass
class LiveFold(FoldListener):
    """Logs each fold as a run of its own, from run.json's `params` and `corpus_sha256` and the stage's `tags`.

    `project_task` puts it below its cell's run later.
    """

    root: Path
    task: str
    metric: str
    params: Mapping[str, Any]
    corpus_sha256: str
    tags: Mapping[str, str]

    def __post_init__(self) -> None:
        self.run = LiveRun(self.root)

    def begin(self, cell: str, fold: int | None, run_id: str | None) -> str | None:
        """Continue the fold's run, or create one; return its id."""
        name, tags, params = runs.describe_fold(self.task, cell, fold, self.corpus_sha256, self.params)
        self.run.begin(self.task, name, {**self.tags, **tags}, params, run_id)
        return self.run.id or run_id

    def epoch(self, record: EpochRecord, spans_per_second: float | None) -> None:
        """Log an epoch, if the run does not have it."""
        if self.run.id is not None:
            with self.run.working():
                speed = {"spans_per_second": spans_per_second} if spans_per_second else {}
                runs.log_epochs(self.run.id, self.run.epochs, [{**record.flat(), **speed}])

    def end(self, digest: str, scores: Mapping[str, float]) -> None:
        """Log the final scores and the digest of the fold's weights."""
        self.run.end(metrics=runs.score_metrics(scores, self.metric), tags={OUTPUTS: digest})
