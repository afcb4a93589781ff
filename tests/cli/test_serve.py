"""`unroll serve` as a person runs it: the champion of a small project, asked by real clients over the loopback."""

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.support.project import Project

pytestmark = pytest.mark.slow

JSON = "application/json"
TEXTS = [
    "a thin plot , but never dull",
    "zzz",
    "None",
    "two\nlines",
    "Ж",
    "a thin plot , but never dull",
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(project: Project, *arguments: str, **variables: str) -> tuple[subprocess.Popen[str], list[str]]:
    """Start a command that serves, and return it with what it said until it was ready."""
    process = subprocess.Popen(
        ["unroll", *arguments], cwd=project.folder, env=project.environment() | {"PYTHONUNBUFFERED": "1"} | variables,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        # A shell starts what it runs in the background deaf to Ctrl-C; these tests send one.
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
def said(small_project: Project) -> Iterator[list[str]]:
    """What the server of the sentiment champion said when it was ready."""
    port = free_port()
    process, lines = start(small_project, "serve", "sentiment", "--port", str(port))
    yield lines
    assert "stopped" in stop(process, signal.SIGINT)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/ping", timeout=5)


@pytest.fixture(scope="module")
def address(said: list[str]) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+", said[0])
    assert found
    return found.group()


def ask(address: str, body: object, content_type: str = JSON) -> requests.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return requests.post(
        f"{address}/invocations", data=content, headers={"Content-Type": content_type}, timeout=60
    )  # fmt: skip


def answers(response: requests.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["predictions"]
    return found


def test_it_says_what_it_serves_and_how_to_ask(said: list[str], address: str) -> None:
    served = r"sentiment: version 1 \((RNN|LSTM|GRU|ensemble), accuracy 0\.\d{4} out of fold\) at "
    assert re.fullmatch(served + re.escape(address), said[0])
    assert said[1] == f"health   curl {address}/health"
    done = subprocess.run(said[2].removeprefix("ask      "), shell=True, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["predictions"][0]["label"] in set("01234")


def test_it_is_healthy(address: str) -> None:
    for path in ("ping", "health"):
        assert requests.get(f"{address}/{path}", timeout=60).status_code == 200


def test_it_answers_exactly_as_predict_does(small_project: Project, said: list[str], address: str) -> None:
    cell = said[0].partition("(")[2].partition(",")[0]
    only = [] if cell == "ensemble" else ["--cell", cell]
    expected = json.loads(small_project.run("unroll", "predict", "sentiment", *TEXTS, "--json", *only).stdout)
    found = answers(ask(address, {"dataframe_records": [{"text": text} for text in TEXTS]}))
    assert [answer["label"] for answer in found] == [answer["label"] for answer in expected]
    for answer, right in zip(found, expected, strict=True):
        assert answer["probability"] == right["probability"]
        assert {label: answer[f"p_{label}"] for label in "01234"} == right["probabilities"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ({"dataframe_split": {"columns": ["text"], "data": [[text] for text in TEXTS]}}, JSON),
        ({"inputs": TEXTS}, JSON),
        ({"inputs": {"text": TEXTS}}, JSON),
        ({"instances": [{"text": text} for text in TEXTS]}, JSON),
        ({"dataframe_records": [{"other": 1, "text": text} for text in TEXTS]}, f"{JSON}; charset=utf-8"),
    ],
)
def test_each_form_of_a_request_gives_the_same_answer(address: str, body: object, content_type: str) -> None:
    expected = answers(ask(address, {"dataframe_records": [{"text": text} for text in TEXTS]}))
    assert answers(ask(address, body, content_type)) == expected


def test_csv_is_read_too(address: str) -> None:
    expected = answers(ask(address, {"inputs": ["never , dull", "12"]}))
    assert answers(ask(address, b'id,text\n1,"never , dull"\n2,12\n', "text/csv")) == expected


BAD: list[tuple[object, str]] = [
    (None, "found null"),
    (7, "found the number 7"),
    ("never dull", "found a string"),
    ([], "found a list"),
    ({}, "found one with nothing"),
    (b"", "the body is not JSON"),
    (b"{", "the body is not JSON"),
    (b"\xff", "the body is not UTF-8 (byte 0)"),
    (b"[" * 100_000, "the body is not JSON"),
    ({"text": "never dull"}, "found one with text"),
    ({"inputs": ["a"], "instances": ["a"]}, "found one with inputs, instances"),
    ({"inputs": "never dull"}, "inputs: expected a list, found a string"),
    ({"inputs": []}, "inputs: there are no rows"),
    ({"inputs": [None]}, "inputs: row 0: text: found null"),
    ({"inputs": ["a", 5]}, "inputs: row 1: text: found the number 5"),
    ({"inputs": {"text": [True]}}, "row 0: text: found true"),
    ({"inputs": {"txt": ["a"]}}, "inputs: there is no column text; found txt"),
    ({"dataframe_records": []}, "dataframe_records: there are no rows"),
    ({"dataframe_records": None}, "expected a list, found null"),
    ({"dataframe_records": ["a"]}, "row 0: expected an object with text, found a string"),
    ({"dataframe_records": [{"txt": "a"}]}, "row 0: there is no text; found txt"),
    ({"dataframe_records": [{"text": "a"}, {}]}, "row 1: there is no text; found nothing"),
    ({"dataframe_records": [{"text": None}]}, "row 0: text: found null"),
    ({"dataframe_records": [{"text": 1.5}]}, "row 0: text: found the number 1.5"),
    ({"dataframe_records": [{"text": " \n"}]}, "row 0: text: found an empty string"),
    ({"dataframe_records": [{"text": ["a"]}]}, "row 0: text: found a list"),
    ({"dataframe_records": [{"text": "\ud800"}]}, "row 0: text: found half of a character"),
    ({"dataframe_split": {"columns": ["txt"], "data": [["a"]]}}, "there is no column text; found txt"),
    ({"dataframe_split": {"columns": ["text"], "data": [["a", "b"]]}}, "expected a list of 1, found a list of 2"),
    ({"dataframe_split": {"columns": ["text"], "data": []}}, "there are no rows"),
    ({"dataframe_split": []}, "expected an object with the lists columns and data"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "told"), BAD, ids=[f"{str(body)[:40]!r}" for body, _ in BAD])
def test_a_bad_request_gets_a_sentence(address: str, body: object, told: str) -> None:
    refused(ask(address, body), 400, told)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "line 1: there is no column text; found nothing"),
        (b"txt\na\n", "line 1: there is no column text; found txt"),
        (b"text\n", "there are no rows"),
        (b"text\na,b\n", "row 0: expected 1 fields, found 2"),
        (b'text\n"a', "the body is not CSV"),
        (b"text\n\xff\n", "the body is not UTF-8"),
        (b'text\n" "\n', "row 0: text: found an empty string"),
        (b"text\nNA\n", "row 0: text must be a string that is not empty, found nan"),
    ],
)
def test_a_bad_csv_gets_a_sentence(address: str, body: bytes, told: str) -> None:
    refused(ask(address, body, "text/csv"), 400, told)


def test_what_mlflow_itself_refuses_gets_a_sentence_too(address: str) -> None:
    refused(ask(address, b"no parquet", "application/vnd.apache.parquet"), 400, "Parquet")
    refused(ask(address, b"x", "text/plain"), 415, "found text/plain, expected application/json or text/csv")
    refused(requests.post(f"{address}/invocations", timeout=60), 415, "found none")
    refused(requests.get(f"{address}/invocations", timeout=60), 405, "Method Not Allowed")
    refused(requests.get(f"{address}/nowhere", timeout=60), 404, "Not Found")


def refused(response: requests.Response, status: int, told: str) -> None:
    assert response.status_code == status, response.text
    content = response.json()
    assert content.keys() == {"error_code", "message"}
    assert told in content["message"]
    assert "\n" not in content["message"]
    assert "Traceback" not in response.text
    assert len(response.text) < 500


def test_32_requests_at_once_are_answered_as_one_alone_is(address: str) -> None:
    texts = [f"a thin plot , but {'never ' * number}dull" for number in range(32)]
    alone = [answers(ask(address, {"inputs": [text]})) for text in texts]
    with ThreadPoolExecutor(32) as people:
        at_once = list(people.map(lambda text: answers(ask(address, {"inputs": [text]})), texts))
    assert at_once == alone
    assert len({str(answer) for answer in alone}) > 16


def test_bad_requests_among_good_ones_disturb_nobody(address: str) -> None:
    right = answers(ask(address, {"inputs": ["never dull"]}))
    bodies = [{"inputs": ["never dull"]} if number % 2 else {"inputs": [None]} for number in range(32)]
    with ThreadPoolExecutor(32) as people:
        found = list(people.map(lambda body: ask(address, body), bodies))
    assert [response.status_code for response in found] == [400, 200] * 16
    assert all(answers(response) == right for response in found[1::2])


@pytest.fixture
def broken_code(small_project: Project) -> Iterator[None]:
    """The project's own code with a module of the models broken."""
    module = small_project.folder / "src/unroll/asking.py"
    before = module.read_text()
    module.write_text("raise RuntimeError\n")
    yield
    module.write_text(before)


@pytest.mark.usefixtures("broken_code")
def test_a_version_is_read_with_the_code_that_was_kept_with_it_and_a_signal_ends_it(small_project: Project) -> None:
    port = free_port()
    process, said = start(small_project, "serve", "surnames", "--version", "1", "--port", str(port))
    assert said[0].startswith("surnames: version 1 (")
    found = answers(ask(f"http://127.0.0.1:{port}", {"inputs": ["Nakamura", "O'Brien"]}))
    assert len(found) == 2
    assert set(found[0]) >= {"label", "probability", "p_Japanese", "p_Irish"}
    assert "stopped" in stop(process, signal.SIGTERM)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "error: task 'nonsense'"),
        (["sentiment", "--version", "99"], "error: --version 99: sentiment has no such version; there are 1"),
    ],
)
def test_a_mistake_is_one_sentence(small_project: Project, arguments: list[str], told: str) -> None:
    done = small_project.run("unroll", "serve", *arguments, check=False)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_champion_it_says_what_to_do(small_project: Project, tmp_path: os.PathLike[str]) -> None:
    fresh = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/fresh.db"}
    done = small_project.run("unroll", "serve", "sentiment", check=False, **fresh)
    assert done.returncode == 1
    assert "error: sentiment: MLflow's registry has no champion; `dvc repro` trains models and names one" in done.stderr


def test_a_port_that_is_taken_is_named(small_project: Project, address: str) -> None:
    port = address.rpartition(":")[2]
    done = small_project.run("unroll", "serve", "sentiment", "--port", port, check=False)
    assert done.returncode == 1
    assert f"error: 127.0.0.1:{port}: cannot listen there (Address already in use); give another --port" in done.stderr
