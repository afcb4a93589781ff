"""A run that is open: what it records, and how it ends."""

import json
import os
import socket
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags

from unroll.core.errors import warn
from unroll.tracking.outbox import PARENT, UNREACHABLE, Outbox, apply, create_run, is_refusal
from unroll.tracking.owner import HOST, STARTED_BY, Owner, tag_owner
from unroll.tracking.past import PREDICTIONS, attach_files
from unroll.tracking.store import STORE, experiment_id

REQUIREMENTS = ("torch", "torchtext", "numpy", "pandas", "scikit-learn", "pydantic", "ruamel.yaml", "safetensors",
                "accelerate", "tqdm")  # fmt: skip


@dataclass
class Run:
    """A run that is open: in the store, or, while that does not answer, in a file."""

    name: str
    id: str  # empty where the store has no such run yet
    outbox: Outbox | None = None
    is_stopped: bool = False  # because of an error that is another run's

    @property
    def key(self) -> str:
        """Return what a run below this one names it by."""
        return self.id or (self.outbox.key if self.outbox else "")

    def log_epoch(self, values: Mapping[str, float], epoch: int) -> None:
        """Record what an epoch gave."""
        self._log(metrics={name: float(value) for name, value in values.items()}, step=epoch)

    def log_scores(self, values: Mapping[str, float], prefix: str = "best_") -> None:
        """Record final scores, which the table of runs shows under their own names."""
        self._log(metrics={f"{prefix}{name}": float(value) for name, value in values.items()}, step=0)

    def log_params(self, sections: Mapping[str, Any]) -> None:
        """Record settings, nested sections as `section.key`."""
        self._log(params={name: str(value) for name, value in _flatten(sections)})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tie the run to what it comes from and what came of it."""
        self._log(tags={name: value for name, value in tags.items() if value})

    def end(self, status: str) -> None:
        """Close the run."""
        self._log(end=status)
        if self.outbox is not None:
            self.outbox.close()

    def _log(self, **action: Any) -> None:
        action["time"] = int(time.time() * 1000)
        if self.id and not STORE.is_down and self.outbox is None:
            try:
                apply(self.id, action)
            except UNREACHABLE as error:
                if is_refusal(error):
                    raise
                STORE.tell_down(error)
            else:
                return
        if self.outbox is None:
            self.outbox = Outbox(STORE.unsent, {"store": mlflow.get_tracking_uri(), "id": self.id})
        self.outbox.add(action)

    def log_dataset(self, rows: pd.DataFrame, *, origin: str, name: str, label: str, context: str) -> None:
        """Record the dataset with MLflow's digest of it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whole numbers are whole numbers here: MLflow's hint is for missing values
            dataset = mlflow.data.from_pandas(rows, source=origin, name=name, targets=label)  # type: ignore[attr-defined]
            content = dataset.to_dict()
        self._log(dataset=content, context=context)

    def log_predictions(self, answers: pd.DataFrame, rows: pd.DataFrame) -> None:
        """Keep the out-of-fold answers with the rows they answer, so that the run can be compared when both are gone.

        Args:
            answers: row_id, fold, and a column of probabilities for each label.
            rows: row_id, group, text and label of these rows and others.
        """
        known = rows.set_index("row_id")[["group", "text", "label"]]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, PREDICTIONS.name)
            answers.join(known, on="row_id").to_parquet(file, index=False, compression="zstd")
            if self.id:
                attach_files(self.id, str(PREDICTIONS.parent), [file])

    def log_model(
        self,
        folders: Mapping[str, Sequence[Path]],
        weights: Mapping[str, float],
        package: Path,
        example: list[str],
        labels: Sequence[str],
        calibration: Mapping[str, Any] | None = None,
    ) -> str | None:
        """Record bundles as one model that reads raw text, for `unroll serve`, `mlflow models predict` and its server.

        Args:
            folders: the bundles' folders by cell; a cell answers with the mean of its own.
            weights: of the same cells; the answer is their weighted mean.
            package: folder of the package's source, which goes along.
            example: texts to show how it is asked.
            labels: of the classes, each of which becomes a column of the answer.
            calibration: of the weighted mean, as ensemble.Calibration.as_content gives it.

        Returns:
            The model's address; None where the store did not take it.
        """
        inputs = pd.DataFrame({"text": example})
        answer = pd.DataFrame({"label": labels[:1], "probability": [1.0], **{f"p_{label}": [0.0] for label in labels}})
        named = {f"{cell}_{folder.name}": folder for cell, places in folders.items() for folder in places}
        predictor = {
            "labels": list(labels),
            "weights": {cell: float(weights[cell]) for cell in folders},
            "calibration": calibration,
            "bundles": {cell: [f"{cell}_{folder.name}" for folder in places] for cell, places in folders.items()},
        }
        try:
            if STORE.is_down or not self.id:
                raise MlflowException("it has stopped answering")
            with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings(), mlflow.start_run(run_id=self.id):
                warnings.simplefilter("ignore")
                # A file, not MLflow's model_config, which would stand among the run's settings.
                described = Path(scratch, "predictor.json")
                described.write_text(json.dumps(predictor), encoding="utf-8")
                logged = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=str(Path(__file__).parent / "scoring.py"),
                    artifacts={"predictor": str(described), **{name: str(folder) for name, folder in named.items()}},
                    code_paths=[str(package)],
                    signature=mlflow.models.infer_signature(inputs, answer),
                    input_example=inputs,
                    pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in REQUIREMENTS],
                )
        except UNREACHABLE as error:
            if is_refusal(error):
                raise
            STORE.tell_down(error)
            place = next(iter(named.values())).parent
            warn(f"MLflow: the model of the run {self.name!r} is not recorded, nor will it be; it stands in {place}")
            return None
        return str(logged.model_uri)


@contextmanager
def start_run(experiment: str, name: str, tags: Mapping[str, str], parent: Run | None = None) -> Iterator[Run]:
    """Open a run, below another one where that is given; it is marked as failed when the block ends in an error.

    The outermost one first ends what a process that was killed left open in the experiment. When it ends itself, what
    was kept while the store did not answer is sent.
    """
    if parent is None and not STORE.is_down:
        _end_orphans(experiment)
    run = _open_run(experiment, name, tags, parent)
    status = "FAILED"
    try:
        yield run
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        if status == "KILLED":  # a person waits, and a store that does not answer is no reason to
            ending = threading.Thread(target=run.end, args=(status,), daemon=True)
            ending.start()
            ending.join(STORE.time_left())
        else:
            run.end("KILLED" if run.is_stopped else status)
            if parent is None and STORE.is_down:
                STORE.send_kept()


def _open_run(experiment: str, name: str, tags: Mapping[str, str], parent: Run | None) -> Run:
    run = {
        "store": mlflow.get_tracking_uri(),
        "id": "",
        "experiment": experiment,
        "name": name,
        "tags": resolve_tags({key: value for key, value in {**tags, **tag_owner()}.items() if value}),
        "parent": parent.key if parent else "",
        "time": int(time.time() * 1000),
    }
    if not STORE.is_down:
        try:
            return Run(name, create_run(run, experiment_id(experiment)))
        except UNREACHABLE as error:
            if is_refusal(error):
                raise
            STORE.tell_down(error)
    return Run(name, "", Outbox(STORE.unsent, run))


def _end_orphans(experiment: str) -> None:
    """Mark as killed what still counts as running, and was begun on this host by a process that is no more."""
    client = mlflow.MlflowClient()
    try:
        running = _search(experiment, f"attributes.status = 'RUNNING' AND tags.{HOST} = '{socket.gethostname()}'")
        for run in running:
            owner = Owner.from_tag(run.data.tags.get(STARTED_BY, ""))
            if owner is None or not owner.is_gone():
                continue
            try:
                if client.get_run(run.info.run_id).info.status == "RUNNING":  # it may have ended since it was found
                    apply(run.info.run_id, {"end": "KILLED", "time": _last_heard_of(experiment, run)})
            except UNREACHABLE as error:
                if not is_refusal(error):
                    raise
    except UNREACHABLE as error:
        STORE.tell_down(error)


def _last_heard_of(experiment: str, run: mlflow.entities.Run) -> int:
    """Return when a run or one below it began, ended or recorded a metric for the last time, in milliseconds."""
    client, run_id = mlflow.MlflowClient(), run.info.run_id
    times: list[int] = [run.info.start_time, run.info.end_time or 0]
    times += [value.timestamp for metric in run.data.metrics for value in client.get_metric_history(run_id, metric)]
    times += [_last_heard_of(experiment, child) for child in _search(experiment, f"tags.`{PARENT}` = '{run_id}'")]
    return max(times)


def _search(experiment: str, condition: str) -> list[mlflow.entities.Run]:
    return list(mlflow.search_runs(experiment_names=[experiment], filter_string=condition, output_format="list"))


def name_run(*parts: object) -> str:
    """Return a run's name: what it is and, within a DVC experiment, that experiment's name in brackets."""
    experiment = os.environ.get("DVC_EXP_NAME", "")
    return " ".join(str(part) for part in [*parts, *([f"({experiment})"] if experiment else [])])


def workspace_tags() -> dict[str, str]:
    """Return what ties a run to the code and the DVC stage that it comes from."""
    return {
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": "yes" if _git("status", "--porcelain", "--untracked-files=no") else "no",
        "dvc_stage": os.environ.get("DVC_STAGE", ""),
        "dvc_experiment": os.environ.get("DVC_EXP_NAME", ""),
        "dvc_baseline": os.environ.get("DVC_EXP_BASELINE_REV", ""),
    }


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _flatten(sections: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in sections.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
