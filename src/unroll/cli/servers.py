"""Run another program's server in the foreground: start it, wait until it is ready, stop it on Ctrl-C."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import requests

from unroll.core.errors import UnrollError

READY_TIMEOUT, STOP_TIMEOUT = 120.0, 10.0  # seconds


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
    check_port(host, port)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # MLflow looks for uvicorn there
    command = [sys.executable, "-W", "ignore", "-m", "mlflow", *arguments, "--host", host, "--port", str(port)]
    process = subprocess.Popen(command, env={**os.environ, "PATH": path, **variables}, start_new_session=True)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _wait_until_ready(process, f"http://{host}:{port}/health")
        announce()
        print("Ctrl-C stops it", flush=True)
        raise UnrollError(f"mlflow {arguments[0]}: the server ended with status {process.wait()}")
    except KeyboardInterrupt:
        print("stopped", flush=True)
    finally:
        signal.signal(signal.SIGTERM, before)
        _stop(process)


def check_port(host: str, port: int) -> None:
    """Check that a port is free.

    Raises:
        UnrollError: it is not, or there is no such host.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UnrollError(f"{host}:{port}: cannot listen there ({error.strerror}); set another --port") from None


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    until = time.monotonic() + READY_TIMEOUT
    while time.monotonic() < until:
        if process.poll() is not None:
            raise UnrollError(f"{url}: the server ended with status {process.returncode} before it was ready")
        with suppress(requests.RequestException):
            if requests.get(url, timeout=5).status_code == 200:
                return
        time.sleep(0.2)
    raise UnrollError(f"{url}: the server was not ready within {READY_TIMEOUT:.0f} seconds")


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):  # to the server's own processes too
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT)
            return
