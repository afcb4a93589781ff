"""`unroll serve` and `unroll ui`: MLflow's servers of the champion and of the runs, in the foreground."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import requests
import typer

from unroll.cli.track import open_tracked
from unroll.core import paths
from unroll.core.errors import UnrollError
from unroll.core.params import read_config
from unroll.data.competition import load_competition

EXAMPLES = {"sentiment": "a thin plot , but never dull", "surnames": "Nakamura"}
READY_TIMEOUT, STOP_TIMEOUT = 120.0, 10.0  # seconds
Port = Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")]


def serve(
    task: Annotated[str | None, typer.Argument(help="Whose model; default: the first task's.")] = None,
    version: Annotated[int | None, typer.Option("--version", min=1, help="This version, not the champion.")] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Port = 5001,
) -> None:
    """Serve a task's champion with MLflow's scoring server until interrupted; docs/serving.md describes requests.

    Example: unroll serve surnames --port 5001
    """
    from unroll.tracking.runs import download_model, find_champion, list_versions
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
    address = address_of({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)  # noqa: S104
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


def ui(port: Port = 5000) -> None:
    """Run the MLflow UI until interrupted.

    Example: unroll ui --port 5000
    """
    from unroll.tracking.store import tracking_uri

    open_tracked(*read_config(paths.PARAMS).tasks)
    uri = tracking_uri(Path.cwd())
    if uri.startswith("http"):  # a server, which has pages of its own
        typer.echo(uri)
        return
    arguments = ["ui", "--backend-store-uri", uri, "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    address = f"http://127.0.0.1:{port}"
    run_mlflow(arguments, {}, host="127.0.0.1", port=port, announce=lambda: typer.echo(f"MLflow runs at {address}"))


def address_of(host: str, port: int) -> str:
    """Return the address of a server; one of IPv6 stands in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_mlflow(
    arguments: Sequence[str], variables: Mapping[str, str], *, host: str, port: int, announce: Callable[[], None]
) -> None:
    """Run one of MLflow's servers until Ctrl-C or SIGTERM.

    Args:
        arguments: of `mlflow`, without host and port.
        variables: environment variables to set.
        host: where it listens.
        port: likewise.
        announce: called when the server is ready.

    Raises:
        UnrollError: the port is taken, or the server ends or is not ready in time.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UnrollError(f"{host}:{port}: cannot listen there ({error.strerror}); set another --port") from None
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # MLflow looks for uvicorn there
    command = [sys.executable, "-W", "ignore", "-m", "mlflow", *arguments, "--host", host, "--port", str(port)]
    process = subprocess.Popen(command, env={**os.environ, "PATH": path, **variables}, start_new_session=True)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _wait_until_ready(process, f"{address_of(host, port)}/health")
        announce()
        print("Ctrl-C stops it", flush=True)
        raise UnrollError(f"mlflow {arguments[0]}: the server ended with status {process.wait()}")
    except KeyboardInterrupt:
        print("stopped", flush=True)
    finally:
        signal.signal(signal.SIGTERM, before)
        for number in (signal.SIGTERM, signal.SIGKILL):  # to the server's own processes too
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT)
                break


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    until = time.monotonic() + READY_TIMEOUT
    while time.monotonic() < until and process.poll() is None:
        with suppress(requests.RequestException):
            if requests.get(url, timeout=5).status_code == 200:
                return
        time.sleep(0.2)
    status = process.poll()
    why = f"not ready within {READY_TIMEOUT:.0f} s" if status is None else f"the server ended with status {status}"
    raise UnrollError(f"{url}: {why}")
