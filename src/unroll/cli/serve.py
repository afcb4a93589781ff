"""`unroll serve`: the champion of a task behind MLflow's own scoring server."""

import json
import os
import sys
from pathlib import Path

import typer

from unroll import tracking
from unroll.cli.servers import run_server
from unroll.core import paths
from unroll.core.errors import UnrollError
from unroll.core.params import read_config
from unroll.data.competition import load_competition
from unroll.tracking import registry

EXAMPLES = {"sentiment": "a thin plot , but never dull", "surnames": "Nakamura"}


def serve(task_name: str | None, *, version: int | None, host: str, port: int) -> None:
    """Serve a task's champion, or a version of it, until interrupted.

    Args:
        task_name: whose model; None takes the first task of params.yaml.
        version: which one; None serves the champion.
        host: where to listen.
        port: likewise.

    Raises:
        UnrollError: there is no such model, or the port is taken.
    """
    task = load_competition(paths.competition(task_name or read_config(paths.PARAMS).tasks[0]))
    tracking.open_store(Path.cwd())
    found = registry.find_champion(task.name)
    if version is not None:
        versions = registry.list_versions(task.name)
        found = next((each for each in versions if each.number == str(version)), None)
        if found is None:
            numbers = ", ".join(each.number for each in versions) or "none"
            raise UnrollError(f"--version {version}: {task.name} has no such version; there are {numbers}")
    if found is None:
        raise UnrollError(f"{task.name}: MLflow's registry has no champion; `dvc repro` trains models and names one")
    address = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104
    body = json.dumps({"dataframe_records": [{"text": EXAMPLES.get(task.name, task.title)}]})

    def announce() -> None:
        score = (
            f", {found.tags['metric']} {float(found.tags['score']):.4f} out of fold" if "score" in found.tags else ""
        )
        typer.echo(f"{task.name}: version {found.number} ({found.tags.get('cell', 'model')}{score}) at {address}")
        typer.echo(f"health   curl {address}/health")
        typer.echo(f"ask      curl {address}/invocations -H 'Content-Type: application/json' -d '{body}'")

    door = Path(tracking.__file__).with_name("door.py")
    command = [sys.executable, "-P", str(door), found.model, "--host", host, "--port", str(port)]
    environment = os.environ | {"MLFLOW_TRACKING_URI": tracking.tracking_uri(Path.cwd())}
    run_server(command, environment, host=host, port=port, health="/health", announce=announce)
