"""`unroll serve`: short for `mlflow models serve -m models:/<task>@champion --env-manager local`."""

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from unroll.cli.servers import run_mlflow
from unroll.cli.track import open_tracked
from unroll.core import paths
from unroll.core.errors import UnrollError
from unroll.core.params import read_config
from unroll.data.competition import load_competition

EXAMPLES = {"sentiment": "a thin plot , but never dull", "surnames": "Nakamura"}


def serve(
    task: Annotated[str | None, typer.Argument(help="Whose model; default: the first task's.")] = None,
    version: Annotated[int | None, typer.Option("--version", min=1, help="This one, not the champion.")] = None,
    host: Annotated[str, typer.Option("--host", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Likewise.")] = 5001,
) -> None:
    """Serve a task's champion with MLflow's scoring server until interrupted; docs/serving.md describes requests.

    Example: unroll serve surnames --port 5001
    """
    from unroll.tracking.queries import download_model, find_champion, list_versions
    from unroll.tracking.store import tracking_uri

    competition = load_competition(paths.competition(task or read_config(paths.PARAMS).tasks[0]))
    name = competition.name
    open_tracked(name)
    versions = {str(each.version): each for each in list_versions(name)}
    found = find_champion(name) if version is None else versions.get(str(version))
    if found is None and version is not None:
        raise UnrollError(f"--version {version}: found no such version of {name}, expected {', '.join(versions)}")
    if found is None:
        raise UnrollError(f"{name}: MLflow's registry has no champion; `dvc repro` trains models and sets it")
    address = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104
    body = json.dumps({"inputs": [EXAMPLES.get(name, competition.title)]})

    def announce() -> None:
        tags = found.tags
        score = f", {tags['metric']} {float(tags['score']):.4f} out of fold" if "score" in tags else ""
        typer.echo(f"{name}: version {found.version} ({tags.get('cell', 'model')}{score}) at {address}")
        typer.echo(f"curl {address}/invocations -H 'Content-Type: application/json' -d '{body}'")

    variables = {
        "MLFLOW_TRACKING_URI": tracking_uri(Path.cwd()), "MLFLOW_LOGGING_LEVEL": "ERROR", "UVICORN_LOG_LEVEL": "warning"
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:  # a copy, because MLflow cannot load from a path with "%" in it
        model = download_model(found, Path(folder))
        arguments = ["models", "serve", "-m", str(model), "--env-manager", "local", "--workers", "1"]
        run_mlflow(arguments, variables, host=host, port=port, announce=announce)
