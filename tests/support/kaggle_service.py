"""A stand-in of the Kaggle service on the port where the official client's TEST environment looks.

It speaks what kaggle 2.2.4 sends: POST /api/v1/<service>/<rpc> with JSON, a redirect to a file, the file with ranges,
and an upload in its real steps. Run as a program it serves a folder of raw files, to try the commands by hand:

    python -m tests.support.kaggle_service data/sample/sentiment-analysis-on-movie-reviews
"""

import io
import json
import os
import socket
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import filelock
import pytest

from unroll.kaggle.client import load_client

PORT = 7777
TOKEN = "KGAT_0123456789abcdef0123456789abcdef"
SLUG = "sentiment-analysis-on-movie-reviews"


@dataclass
class Fault:
    """An answer that a request gets instead of its own, once."""

    rpc: str
    status: int
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Service:
    """What the stand-in serves, how it misbehaves, and what it was asked."""

    archive: bytes = b""
    datasets: dict[str, bytes] = field(default_factory=dict)
    slug: str = SLUG
    entered: bool = True
    refusal: tuple[int, str] | None = None  # to everything but the check of the token
    faults: list[Fault] = field(default_factory=list)
    cut_after: int | None = None  # bytes of the next download after which the connection breaks
    upload_status: int = 200
    looks_until_scored: int = 1
    outcome: dict[str, str] = field(default_factory=lambda: {"status": "complete", "publicScore": "0.65123",
                                                             "privateScore": "0.64987"})  # fmt: skip
    allowed: int = 5
    is_new: bool = False  # a person on no team: the limits are all zero
    listed_after: int = 0  # how many looks at the list pass before a new submission stands in it
    others: list[tuple[str, float]] = field(default_factory=list)
    slow: float = 0.0  # seconds before a submission is made
    asked: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    submissions: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, rpc: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return status and body for a call that has passed the checks."""
        if "competitionName" in request and request["competitionName"] != self.slug:
            return 404, {"code": 404, "message": "Not found"}
        match rpc:
            case "GetCompetition":
                return 200, {"title": "Sentiment Analysis on Movie Reviews", "userHasEntered": self.entered,
                             "maxDailySubmissions": 5, "submissionsDisabled": False}  # fmt: skip
            case "StartSubmissionUpload":
                token = f"blob-{len(self.uploads) + 1}"
                self.uploads[token] = b""
                return 200, {"token": token, "createUrl": f"http://localhost:{PORT}/upload/{token}"}
            case "CreateSubmission":
                return self.create(request)
            case "ListSubmissions":
                return 200, {"submissions": self.look()}
            case "GetSubmissionLimits":
                if self.is_new:
                    return 200, {"numToday": 0, "numTotal": 0, "numAllowedNow": 0}
                return 200, {"numToday": 5 - self.allowed, "numTotal": 9, "numAllowedNow": self.allowed}
            case "GetLeaderboard":
                if not request.get("overridePublic"):
                    return 200, {"submissions": [{"teamId": 1, "teamName": "private", "score": "0.99"}]}
                return 200, self.page(request)
        return 404, {"code": 404, "message": f"no {rpc} here"}

    def create(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        time.sleep(self.slow)
        if self.allowed <= 0:
            message = "Your team has used its daily Submission allowance (5) today, please try again tomorrow UTC."
            return 400, {"code": 400, "message": message}
        with self.lock:
            reference = 1000 + len(self.submissions)
            self.submissions.insert(0, {
                "ref": reference, "date": f"2026-01-02T03:04:{len(self.submissions):02d}Z", "fileName": "sentiment.csv",
                "description": request.get("submissionDescription", ""), "status": "pending", "submittedBy": "student",
                "totalBytes": len(self.uploads[request["blobFileTokens"]]), "looks": 0,
            })  # fmt: skip
            self.allowed -= 1
        return 200, {"message": "Successfully submitted", "ref": reference}

    def look(self) -> list[dict[str, Any]]:
        for submission in self.submissions:
            submission["looks"] += 1
            if submission["looks"] > self.looks_until_scored and submission["status"] == "pending":
                submission |= self.outcome
        listed = [item for item in self.submissions if item["looks"] > self.listed_after]
        return [{key: value for key, value in item.items() if key != "looks"} for item in listed]

    def page(self, request: dict[str, Any]) -> dict[str, Any]:
        size, first = 50, int(request.get("pageToken") or 0)
        lines = [
            {"teamId": number, "teamName": name, "submissionDate": "2015-01-01T00:00:00Z", "score": f"{score:.5f}"}
            for number, (name, score) in enumerate(self.others, start=1)
        ]
        more = {"nextPageToken": str(first + size)} if first + size < len(lines) else {}
        return {"submissions": lines[first : first + size], **more}


def zip_folder(folder: Path) -> bytes:
    """Return a competition's download: its files in one archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return stream.getvalue()


def sign_in(monkeypatch: pytest.MonkeyPatch, home: Path, token: str | None = TOKEN) -> None:
    """Give this process the environment of a user with a token and no other credential, and retries without pauses."""
    (home / ".kaggle").mkdir(parents=True, exist_ok=True)
    for name in [name for name in os.environ if name.startswith(("KAGGLE_", "HTTP", "http"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    if token is not None:
        monkeypatch.setenv("KAGGLE_API_TOKEN", token)
    client = load_client()
    monkeypatch.setattr(client, "config_dir", str(home / ".kaggle"))  # set when it was imported
    monkeypatch.setattr(client, "config", str(home / ".kaggle/kaggle.json"))
    brief = SimpleNamespace(sleep=lambda seconds: time.sleep(min(seconds, 0.02)), monotonic=time.monotonic)
    for module in ("tenacity.nap", "unroll.kaggle.submissions"):
        monkeypatch.setattr(f"{module}.time", brief)


def the_port() -> filelock.FileLock:
    """Return the lock of the one port: tests that run at the same time take turns."""
    return filelock.FileLock(Path(tempfile.gettempdir()) / f"unroll-tests-port-{PORT}.lock")


@contextmanager
def serve(service: Service) -> Iterator[None]:
    """Serve until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            rpc = self.path.rpartition("/")[2]
            service.asked.append(rpc)
            fault = next((fault for fault in service.faults if fault.rpc == rpc), None)
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.answer(401, {"code": 401, "message": "Unauthenticated"})
            elif rpc == "IntrospectToken":
                self.answer(200, {"active": True, "username": "student"})
            elif fault is not None:
                service.faults.remove(fault)
                self.answer(fault.status, {"code": fault.status, "message": fault.message}, fault.headers)
            elif service.refusal is not None:
                status, message = service.refusal
                self.answer(status, {"code": status, "message": message})
            elif rpc == "DownloadDataFiles":
                known = json.loads(content)["competitionName"] == service.slug
                self.redirect("/files/all.zip") if known else self.answer(404, {"code": 404, "message": "Not found"})
            elif rpc == "DownloadDataset":
                request = json.loads(content)
                name = f"{request['ownerSlug']}/{request['datasetSlug']}"
                known = name in service.datasets
                self.redirect(f"/datasets/{name}") if known else self.answer(404, {"code": 404, "message": "None"})
            else:
                self.answer(*service.answer(rpc, json.loads(content or b"{}")))

        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            service.asked.append("PUT")
            if service.upload_status == 200:
                service.uploads[self.path.rpartition("/")[2]] = content
            self.answer(service.upload_status, {})

        def do_GET(self) -> None:
            service.asked.append(self.path)
            body = service.datasets.get(self.path.removeprefix("/datasets/"), service.archive)
            first = 0
            if asked := self.headers.get("Range"):
                service.ranges.append(asked)
                first = int(asked.removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if first else 200)
            self.send_header("Content-Type", "application/zip")
            self.send_header("Content-Length", str(len(body) - first))
            self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
            self.send_header("ETag", f'"{hash(body)}"')
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            if service.cut_after is not None:
                cut, service.cut_after = service.cut_after, None
                self.wfile.write(body[first : first + cut])
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self.wfile.write(body[first:])

        def redirect(self, path: str) -> None:
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{PORT}{path}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def answer(self, status: int, content: dict[str, Any], headers: dict[str, str] | None = None) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        allow_reuse_address = True
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a connection that was cut on purpose

    with the_port():
        server = Server(("localhost", PORT), Handler)
        thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    names = folder.parent / "surnames"
    datasets = {"student/surnames": zip_folder(names)} if names.is_dir() else {}
    with serve(Service(zip_folder(folder), datasets, others=[("first", 0.76527), ("second", 0.70936)])):
        print(f"serving {folder} on port {PORT}; KAGGLE_API_ENVIRONMENT=TEST KAGGLE_API_TOKEN={TOKEN}")
        print("surnames: data.mirrors {surnames: student/surnames}" if datasets else "no surnames beside it")
        threading.Event().wait()
