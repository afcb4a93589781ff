"""What a store would not take: kept in a file a run, and sent when the store answers again."""

import fcntl
import json
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

PARENT = "mlflow.parentRunId"
UNREACHABLE = (MlflowException, SQLAlchemyError, OSError)
Action = Mapping[str, Any]


def is_refusal(error: Exception) -> bool:
    """Return whether a store answered that it will never take something, which is no matter of its being reachable."""
    code = str(getattr(error, "error_code", ""))
    return code.startswith("INVALID_") or code in ("RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS")


def apply(run_id: str, action: Action) -> None:
    """Write an action to the store: metrics of a step, params, tags, a dataset or the end of a run."""
    client, when = MlflowClient(), int(action["time"])
    if "end" in action:
        client.set_terminated(run_id, action["end"], end_time=when)
        return
    if "dataset" in action:
        context = InputTag("mlflow.data.context", action["context"])
        client.log_inputs(run_id, [DatasetInput(Dataset(**action["dataset"]), [context])])
        return
    metrics = [Metric(name, float(value), when, action["step"]) for name, value in action.get("metrics", {}).items()]
    params = [Param(name, value) for name, value in action.get("params", {}).items()]
    tags = [RunTag(name, value) for name, value in action.get("tags", {}).items()]
    client.log_batch(run_id, metrics=metrics, params=params, tags=tags)


def create_run(run: Mapping[str, Any], experiment_id: str) -> str:
    """Create a run in the store and return its id.

    Args:
        run: name, tags, parent (the id of the run above it, or empty) and time (milliseconds).
        experiment_id: where to.
    """
    tags = {**run["tags"], "mlflow.runName": run["name"]}
    if run["parent"]:
        tags[PARENT] = run["parent"]
    return str(MlflowClient().create_run(experiment_id, start_time=run["time"], tags=tags).info.run_id)


class Outbox:
    """The unsent actions of one run, a line of JSON each; the file is locked as long as the run goes on."""

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        """Begin a file.

        Args:
            folder: of all runs' files.
            run: store (its address) and id; where that is empty, all that create_run needs, whose parent may be
                another outbox' key.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.key = f"{time.time_ns()}-{uuid.uuid4().hex[:8]}"
        self._file = (folder / f"{self.key}.jsonl").open("a", encoding="utf-8")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._write({"run": run})

    def add(self, action: Action) -> None:
        """Keep an action."""
        self._write(action)

    def close(self) -> None:
        """Let it be sent."""
        self._file.close()

    def _write(self, content: Action) -> None:
        self._file.write(json.dumps(content) + "\n")
        self._file.flush()


def send(folder: Path, store: str, experiment_id: Callable[[str], str]) -> tuple[int, list[Path]]:
    """Send what was kept for a store, but for runs that still go on; what is sent twice is there once.

    Args:
        folder: of all runs' files.
        store: its address.
        experiment_id: gives the id of an experiment by name, made where there is none.

    Returns:
        How many runs were sent, and the files that the store refuses for good, which end in .refused.

    Raises:
        MlflowException: the store does not answer; likewise the others of UNREACHABLE.
    """
    sent, refused = 0, []
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if not path.exists():  # another process has just sent it
                continue
            file.seek(0)
            actions = _read(file.read())
            run: dict[str, Any] = {}
            for action in actions:
                run |= action.get("run", {})
            if run.get("store") != store:
                continue
            try:
                if not run["id"]:
                    run["id"] = create_run(run, experiment_id(run["experiment"]))
                    file.write("\n" + json.dumps({"run": {"id": run["id"]}}) + "\n")
                    file.flush()
                    _tell_children(folder, path.stem, run["id"])
                for action in actions:
                    if "run" not in action:
                        apply(run["id"], action)
            except MlflowException as error:
                if not is_refusal(error):
                    raise
                refused.append(path.rename(path.with_suffix(".refused")))
            else:
                path.unlink()
                sent += 1
    return sent, refused


def _tell_children(folder: Path, key: str, run_id: str) -> None:
    """Write a parent's id, now that it has one, into the files of the runs below it."""
    for path in folder.glob("*.jsonl"):
        if f'"parent": "{key}"' in path.read_text(encoding="utf-8").partition("\n")[0]:
            with path.open("a", encoding="utf-8") as file:
                file.write("\n" + json.dumps({"run": {"parent": run_id}}) + "\n")


def _read(content: str) -> list[dict[str, Any]]:
    """Return the lines that are whole: a process that was killed may have left half of the last one."""
    actions = []
    for line in content.splitlines():
        try:
            actions.append(json.loads(line))
        except ValueError:
            continue
    return actions
