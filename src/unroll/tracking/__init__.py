"""Every run remembered in MLflow: the only importer of mlflow.

A store that stops answering never stops a training: what it does not take is kept in a file (outbox.py), and sent when
a run ends or the next program opens the store.
"""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# MLflow waits for a server that does not answer 8 times 120 seconds. A training waits less, once.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

from unroll.tracking.past import (
    RunInfo,
    add_to_run,
    attach_files,
    find_run,
    get_run,
    list_runs,
    look_up,
    read_predictions,
    read_tags,
)
from unroll.tracking.runs import Run, name_run, start_run, workspace_tags
from unroll.tracking.store import open_store, tracking_uri

__all__ = [
    "Run",
    "RunInfo",
    "add_to_run",
    "attach_files",
    "find_run",
    "get_run",
    "list_runs",
    "look_up",
    "name_run",
    "open_store",
    "read_predictions",
    "read_tags",
    "start_run",
    "tracking_uri",
    "workspace_tags",
]  # fmt: skip
