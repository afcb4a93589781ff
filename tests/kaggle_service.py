"""A stand-in of the Kaggle service on the port where the official client's TEST environment looks.

It speaks what kaggle 2.2.4 sends: POST /api/v1/<service>/<rpc> with JSON, a redirect to a file, and the file itself.
"""

import io
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT = 7777
TOKEN = "KGAT_0123456789abcdef0123456789abcdef"


class Service:
    """What the stand-in serves and what it was asked."""

    def __init__(self, archive: bytes) -> None:
        self.archive = archive
        self.refusal: tuple[int, str] | None = None
        self.asked: list[str] = []


def zip_folder(folder: Path) -> bytes:
    """Return a competition's download: its files in one archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    return stream.getvalue()


@contextmanager
def serve(service: Service) -> Iterator[None]:
    """Serve until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            rpc = self.path.rpartition("/")[2]
            service.asked.append(rpc)
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.answer(401, {"code": 401, "message": "Unauthenticated"})
            elif rpc == "IntrospectToken":
                self.answer(200, {"active": True, "username": "student"})
            elif service.refusal is not None:
                status, message = service.refusal
                self.answer(status, {"code": status, "message": message})
            elif rpc == "DownloadDataFiles":
                self.send_response(302)
                self.send_header("Location", f"http://localhost:{PORT}/files/all.zip")
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self.answer(404, {"code": 404, "message": f"no {rpc} here"})

        def do_GET(self) -> None:
            service.asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "application/zip")
            self.send_header("Content-Length", str(len(service.archive)))
            self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
            self.end_headers()
            self.wfile.write(service.archive)

        def answer(self, status: int, content: dict[str, object]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        allow_reuse_address = True

    server = Server(("localhost", PORT), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
