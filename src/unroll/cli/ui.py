"""`unroll ui`: MLflow's pages, opened where the runs are compared."""

import os
import sys
import webbrowser
from pathlib import Path

import typer

from unroll import tracking
from unroll.cli.servers import run_server
from unroll.core import paths
from unroll.core.params import read_config
from unroll.tracking import view

HOST = "127.0.0.1"


def ui(*, port: int, browser: bool) -> None:
    """Show MLflow's pages until interrupted.

    Args:
        port: where to listen.
        browser: open the first task's runs in it, where this is a desktop.

    Raises:
        UnrollError: the store cannot be opened, or the port is taken.
    """
    tracking.open_store(Path.cwd())
    experiments = view.find_experiments(list(read_config(paths.PARAMS).tasks))
    view.arrange_runs(experiments)
    uri = tracking.tracking_uri(Path.cwd())
    is_server = uri.startswith("http")  # which shows its own pages
    address = uri.rstrip("/") if is_server else f"http://{HOST}:{port}"
    links = [
        (f"{name}: {title}", address + view.link_to(number, kind))
        for name, number in experiments.items()
        for title, kind in (("runs compared", view.COMPARED), ("table with folds", view.FOLDS))
    ]

    def announce() -> None:
        for title, link in links or [("no runs yet", address)]:
            typer.echo(f"{title:<30}{link}")
        if browser and links and is_desktop():
            webbrowser.open(links[0][1])

    if is_server:
        announce()
        return
    command = [sys.executable, "-W", "ignore", "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", HOST]
    command += ["--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    run_server(command, os.environ, host=HOST, port=port, health="/health", announce=announce)


def is_desktop() -> bool:
    """Say whether a person sits here before a screen; elsewhere a browser of text would take the terminal."""
    screen = sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return sys.stdout.isatty() and screen
