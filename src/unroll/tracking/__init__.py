"""Every run remembered in MLflow: the only importer of mlflow.

A store that stops answering never stops a training: what it does not take is kept in a file (outbox.py), and sent when
a run ends or the next program opens the store.
"""

import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import filelock
import pandas as pd

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# MLflow waits for a server that does not answer 8 times 120 seconds. A training waits less, once.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags

from unroll.errors import UnrollError, warn
from unroll.tracking.outbox import UNREACHABLE, Outbox, apply, create_run, is_refusal, send

UNSENT = Path(".cache/unsent")  # below the folder that holds mlflow.db
REQUIREMENTS = ("torch", "torchtext", "numpy", "pandas", "scikit-learn", "pydantic", "ruamel.yaml", "safetensors",
                "accelerate", "tqdm")  # fmt: skip
ID_BEGINNING = re.compile("[0-9a-f]{4,31}")
PREDICTIONS = Path("predictions/out_of_fold.parquet")  # among a run's artifacts


@dataclass(frozen=True)
class PastRun:
    """What the store says of a run that has ended."""

    id: str
    name: str
    started: datetime
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]


@dataclass
class _Store:
    """Where runs go, and whether it has stopped answering since it was opened."""

    unsent: Path = Path()
    is_down: bool = False


_store = _Store()


@dataclass
class Run:
    """A run that is open: in the store, or, while that does not answer, in a file."""

    name: str
    id: str  # empty where the store has no such run yet
    outbox: Outbox | None = None

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
        if self.id and not _store.is_down and self.outbox is None:
            try:
                apply(self.id, action)
            except UNREACHABLE as error:
                if is_refusal(error):
                    raise
                _tell_down(error)
            else:
                return
        if self.outbox is None:
            self.outbox = Outbox(_store.unsent, {"store": mlflow.get_tracking_uri(), "id": self.id})
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
            calibration: of the weighted mean, as blend.Calibration.as_content gives it.

        Returns:
            The model's address; None where the store did not take it.
        """
        inputs = pd.DataFrame({"text": example})
        answer = pd.DataFrame({"label": labels[:1], "probability": [1.0], **{f"p_{label}": [0.0] for label in labels}})
        named = {f"{cell}_{folder.name}": folder for cell, places in folders.items() for folder in places}
        panel = {
            "labels": list(labels),
            "weights": {cell: float(weights[cell]) for cell in folders},
            "calibration": calibration,
            "bundles": {cell: [f"{cell}_{folder.name}" for folder in places] for cell, places in folders.items()},
        }
        try:
            if _store.is_down or not self.id:
                raise MlflowException("it has stopped answering")
            with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings(), mlflow.start_run(run_id=self.id):
                warnings.simplefilter("ignore")
                # A file, not MLflow's model_config, which would stand among the run's settings.
                described = Path(scratch, "panel.json")
                described.write_text(json.dumps(panel), encoding="utf-8")
                logged = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=str(Path(__file__).parent / "scoring.py"),
                    artifacts={"panel": str(described), **{name: str(folder) for name, folder in named.items()}},
                    code_paths=[str(package)],
                    signature=mlflow.models.infer_signature(inputs, answer),
                    input_example=inputs,
                    pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in REQUIREMENTS],
                )
        except UNREACHABLE as error:
            if is_refusal(error):
                raise
            _tell_down(error)
            place = next(iter(named.values())).parent
            warn(f"MLflow: the model of the run {self.name!r} is not recorded, nor will it be; it stands in {place}")
            return None
        return str(logged.model_uri)


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
    _store.unsent, _store.is_down = _home(root) / UNSENT, False
    try:
        with one_at_a_time():
            mlflow.search_experiments(max_results=1)
    except UNREACHABLE as error:
        raise UnrollError(f"MLflow: {mlflow.get_tracking_uri()} cannot be opened ({_explain(error)})") from None
    _send_kept()


def _explain(error: Exception) -> str:
    """Return in a few words why a store does not answer, and what to do."""
    reason = " ".join(str(error).split())
    if "out-of-date database schema" in reason:
        address = mlflow.get_tracking_uri()
        return f"another version of MLflow made it; copy it to be safe, then run `mlflow db upgrade {address}`"
    if "database is locked" in reason:
        return "another program holds its lock; end that one, or wait for it, and run the same command again"
    return f"{reason[:200]}; the variable MLFLOW_TRACKING_URI names it"


def _tell_down(error: Exception) -> None:
    if not _store.is_down:
        _store.is_down = True
        warn(
            f"MLflow: {mlflow.get_tracking_uri()} has stopped answering ({said_by(error)}); training goes on, "
            f"and what is to be recorded is kept in {_store.unsent}"
        )


def _send_kept() -> None:
    """Send what was kept while the store did not answer, and say what came of it."""
    if not any(_store.unsent.glob("*.jsonl")):
        return
    try:
        sent, refused = send(_store.unsent, mlflow.get_tracking_uri(), _experiment_id)
    except UNREACHABLE:
        runs = len(list(_store.unsent.glob("*.jsonl")))
        warn(f"MLflow: {runs} runs are not sent yet; they are kept in {_store.unsent}, the next `dvc repro` sends them")
        return
    _store.is_down = False
    if sent:
        print(f"MLflow: sent {sent} runs that were kept while it did not answer", file=sys.stderr, flush=True)
    for path in refused:
        warn(f"MLflow: refuses what was kept for a run that it does not have any more; it stays in {path}")


def said_by(error: Exception) -> str:
    """Return what an error says, in one line that is not too long."""
    return " ".join(str(error).split())[:200]


def tracking_uri(root: Path) -> str:
    """Return MLFLOW_TRACKING_URI, or the address of the project's own store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_home(root) / 'mlflow.db'}"


def _home(root: Path) -> Path:
    root = root.resolve()
    for parent in root.parents:
        if parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return parent.parents[2]
    return root


@contextmanager
def start_run(experiment: str, name: str, tags: Mapping[str, str], parent: Run | None = None) -> Iterator[Run]:
    """Open a run, below another one where that is given; it is marked as failed when the block ends in an error.

    When the outermost run ends, what was kept while the store did not answer is sent.
    """
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
            ending.join(0.3)
        else:
            run.end(status)
            if parent is None and _store.is_down:
                _send_kept()


def _open_run(experiment: str, name: str, tags: Mapping[str, str], parent: Run | None) -> Run:
    run = {
        "store": mlflow.get_tracking_uri(),
        "id": "",
        "experiment": experiment,
        "name": name,
        "tags": resolve_tags({key: value for key, value in tags.items() if value}),
        "parent": parent.key if parent else "",
        "time": int(time.time() * 1000),
    }
    if not _store.is_down:
        try:
            return Run(name, create_run(run, _experiment_id(experiment)))
        except UNREACHABLE as error:
            if is_refusal(error):
                raise
            _tell_down(error)
    return Run(name, "", Outbox(_store.unsent, run))


def _experiment_id(name: str) -> str:
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
        raise UnrollError(f"MLflow: {mlflow.get_tracking_uri()} has stopped answering ({_explain(error)})") from None
    return str(found[0].info.run_id) if found else None


def list_runs(experiment: str, most: int) -> list[PastRun]:
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
    return [_past(run) for run in found if "mlflow.parentRunId" not in run.data.tags][:most]


def look_up(named: str) -> PastRun:
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


def get_run(run_id: str) -> PastRun:
    """Return a run by its whole id."""
    return _past(mlflow.get_run(run_id))


def _past(run: mlflow.entities.Run) -> PastRun:
    started = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
    data = run.data
    return PastRun(
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
        warn(f"MLflow: files in {folder}/ are not recorded with the run {run_id} ({_explain(error)})")


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
