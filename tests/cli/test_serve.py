"""`unroll serve`, `track` and `ui` on the outputs of a small task; the server over the loopback."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.command import unroll
from tests.support.outputs import write_outputs
from tests.support.project import Project
from tests.tracking.conftest import empty_store, projected, projected_folder, reopen  # noqa: F401
from unroll.cli import serve
from unroll.tracking.projection import TaskOutputs
from unroll.tracking.runs import find_champion

TEXTS = ["a thin plot", "zzz", "None", "two\nlines", "Ж", "a thin plot"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(project: Project, *arguments: str, **variables: str) -> tuple[subprocess.Popen[str], list[str]]:
    """Start a command that serves, and return it with what it printed until it was ready."""
    process = subprocess.Popen(
        ["unroll", *arguments], cwd=project.folder, env=project.environment() | {"PYTHONUNBUFFERED": "1"} | variables,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        # A program that a script has put into the background ignores Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout is not None
    said: list[str] = []
    for line in process.stdout:
        said.append(line.strip())
        if line.startswith("Ctrl-C"):
            return process, said
    raise AssertionError(f"ended with {process.wait()}: {said}")


def stop(process: subprocess.Popen[str], number: signal.Signals) -> str:
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return out


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[list[str]]:  # noqa: F811
    """What the server printed; its project has outputs that were never logged, and a path that is no URI."""
    folder = tmp_path_factory.mktemp("served") / "a b%20c%2Fd"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes((empty_store / "mlflow.db").read_bytes())
    write_outputs(folder)
    source = Path(__file__).parents[2] / "src"
    process, printed = start(
        Project(folder), "serve", "sentiment", "--port", str(free_port()), PYTHONPATH=str(source)
    )  # fmt: skip
    yield printed
    assert "stopped" in stop(process, signal.SIGINT)
    with pytest.raises(requests.ConnectionError):
        requests.get(address_of(printed), timeout=5)


def address_of(printed: list[str]) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+", printed[0])
    assert found
    return found.group()


def post(address: str, texts: Any) -> requests.Response:
    return requests.post(f"{address}/invocations", json={"inputs": texts}, timeout=60)


@pytest.mark.slow
def test_it_serves_the_champion_of_outputs_that_were_never_logged(served: list[str]) -> None:
    pattern = r"sentiment: version 1 \(RNN, accuracy 0\.5417 out of fold\) at http://127\.0\.0\.1:\d+"
    assert re.fullmatch(pattern, served[0])
    done = subprocess.run(served[1], shell=True, capture_output=True, text=True, check=True)
    (prediction,) = json.loads(done.stdout)["predictions"]
    assert prediction["label"] in set("01234")
    assert prediction["probability"] == max(prediction["probabilities"].values())
    assert requests.get(f"{address_of(served)}/health", timeout=60).status_code == 200


@pytest.mark.slow
def test_many_requests_at_once_get_what_each_gets_alone(served: list[str]) -> None:
    address, texts = address_of(served), [f"a thin plot {'never ' * number}dull" for number in range(16)]
    alone = [post(address, [text]).json() for text in texts]
    bodies = [[text] for text in texts] + [[None]] * 16
    with ThreadPoolExecutor(32) as people:
        found = list(people.map(lambda body: post(address, body), bodies))
    assert [response.status_code for response in found] == [200] * 16 + [400] * 16
    assert [response.json() for response in found[:16]] == alone
    assert post(address, TEXTS).json()["predictions"][0] == post(address, TEXTS).json()["predictions"][-1]
    assert "Traceback" not in found[-1].text


@pytest.mark.slow
def test_a_port_that_is_taken_is_named(served: list[str], projected: TaskOutputs) -> None:  # noqa: F811
    port = address_of(served).rpartition(":")[2]
    done = unroll(projected.rows.parents[2], "serve", "sentiment", "--port", port)
    assert done.returncode == 1
    assert f"error: 127.0.0.1:{port}: cannot listen there (Address already in use); set another --port" in done.stderr


def test_an_address_of_ipv6_stands_in_brackets() -> None:
    assert [serve.address_of(host, 5001) for host in ("::1", "localhost")] == [
        "http://[::1]:5001",
        "http://localhost:5001",
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "competitions/nonsense.yaml"),
        (["sentiment", "--version", "99"], "error: --version 99: found no such version of sentiment, expected 1"),
        (["surnames"], "error: surnames: MLflow's registry has no champion; `dvc repro` trains models and sets it"),
    ],
)
def test_a_model_that_is_not_there_is_one_sentence(
    projected: TaskOutputs,  # noqa: F811
    arguments: list[str],
    told: str,
) -> None:
    done = unroll(projected.rows.parents[2], "serve", *arguments)
    assert done.returncode == 1
    assert told in done.stderr


@pytest.mark.slow
def test_a_model_is_loaded_with_the_code_that_was_logged_with_it(projected: TaskOutputs, tmp_path: Path) -> None:  # noqa: F811
    model = next((projected.rows.parents[2] / "mlartifacts").rglob("MLmodel")).parent.rename(tmp_path / "model")
    (tmp_path / "broken/unroll").mkdir(parents=True)
    (tmp_path / "broken/unroll/__init__.py").write_text("raise RuntimeError\n")
    code = "import sys, mlflow; print(mlflow.pyfunc.load_model(sys.argv[1]).predict(['dull'])[0].label)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(model)], env={"PYTHONPATH": str(tmp_path / "broken")},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.strip().splitlines()[-1] in set("01234"), done.stderr


def test_track_says_what_it_logged(projected: TaskOutputs) -> None:  # noqa: F811
    folder = projected.rows.parents[2]
    assert unroll(folder, "track", "sentiment").stdout == "sentiment: nothing is missing in MLflow\n"
    done = unroll(folder, "track")
    assert done.returncode == 1
    assert "error: surnames: its outputs are incomplete; run `dvc repro` or `dvc pull`" in done.stderr


@pytest.mark.slow
def test_track_brings_back_what_was_deleted(projected: TaskOutputs, empty_store: Path, tmp_path: Path) -> None:  # noqa: F811
    moved = projected.rows.parents[2].rename(tmp_path / "moved")
    (moved / "mlflow.db").write_bytes((empty_store / "mlflow.db").read_bytes())
    (moved / "mlartifacts").rename(tmp_path / "gone")
    printed = unroll(moved, "track", "sentiment").stdout.splitlines()
    assert printed[0].startswith("sentiment: logged to MLflow: RNN fold 0, RNN fold 2, RNN, ")
    assert printed[1] == "sentiment: the champion is now version 1 (RNN): there was none before"
    assert find_champion("sentiment") is not None
