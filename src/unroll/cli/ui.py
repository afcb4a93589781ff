"""`unroll ui`: MLflow's pages, opened where the runs are compared."""

import os
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from unroll.cli.servers import run_mlflow
from unroll.cli.track import open_tracked
from unroll.core import paths
from unroll.core.params import read_config

HOST = "127.0.0.1"


def ui(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where to listen, on this machine.")] = 5000,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open it, on a desktop.")] = True,
) -> None:
    """Show MLflow's pages, opened where the runs of each task are compared, until interrupted.

    Example: unroll ui --port 5000
    """
    from unroll.tracking.store import tracking_uri
    from unroll.tracking.view import arrange_runs

    tasks = read_config(paths.PARAMS).tasks
    open_tracked(*tasks)
    uri = tracking_uri(Path.cwd())
    is_server = uri.startswith("http")  # which has pages of its own
    address = uri.rstrip("/") if is_server else f"http://{HOST}:{port}"
    links = [(title, f"{address}{link}") for title, link in arrange_runs(tasks)]

    def announce() -> None:
        for title, link in links or [("no runs yet", address)]:
            typer.echo(f"{title:<30}{link}")
        has_screen = sys.platform in ("darwin", "win32") or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
        if browser and links and sys.stdout.isatty() and has_screen:
            webbrowser.open(links[0][1])

    if is_server:
        announce()
        return
    arguments = ["ui", "--backend-store-uri", uri, "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    run_mlflow(arguments, {}, host=HOST, port=port, announce=announce)
