"""A server of another program, run until the person has had enough: started, waited for, announced, stopped."""

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType

import requests

from unroll.core.errors import UnrollError

PATIENCE = 120.0  # seconds until it has to answer
GRACE = 10.0  # seconds to end by itself


def run_server(
    command: Sequence[str], environment: Mapping[str, str], *, host: str, port: int, health: str,
    announce: Callable[[], None],
) -> None:  # fmt: skip
    """Run a server until it is interrupted.

    Args:
        command: starts it, on that host and port.
        environment: its variables.
        host: where it listens.
        port: likewise.
        health: the path that answers 200 once it is ready.
        announce: called then.

    Raises:
        UnrollError: the port is taken, or the server ends or does not answer in time.
    """
    check_port(host, port)
    process = subprocess.Popen(command, env=dict(environment))
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        _wait_until_ready(process, f"http://{host}:{port}{health}")
        announce()
        print("Ctrl-C stops it", flush=True)
        status = process.wait()
        raise UnrollError(f"{command[0]}: the server ended by itself, with status {status}")
    except KeyboardInterrupt:
        print("stopped", flush=True)
    finally:
        signal.signal(signal.SIGTERM, before)
        _stop(process)


def check_port(host: str, port: int) -> None:
    """Check that a port is free.

    Raises:
        UnrollError: it is not, or there is no such host here.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UnrollError(f"{host}:{port}: cannot listen there ({error.strerror}); give another --port") from None


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if process.poll() is not None:
            raise UnrollError(
                f"{url}: the server ended with status {process.returncode} before it was ready; see above"
            )
        try:
            if requests.get(url, timeout=5).status_code == 200:
                return
        except requests.RequestException:
            pass
        time.sleep(0.2)
    raise UnrollError(f"{url}: the server did not answer within {PATIENCE:.0f} seconds")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
