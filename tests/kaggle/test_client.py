"""The real client, in a process of its own, against a stand-in of the service on the loopback."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kaggle_service import SLUG, TOKEN, Fault, Service, serve, the_port, zip_folder
from unroll.kaggle import client as kaggle

SAMPLE = Path(__file__).parents[2] / "data/sample" / SLUG


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service(zip_folder(SAMPLE))
    with serve(service):
        yield service


def download(home: Path, token: str | None = TOKEN, slug: str = SLUG) -> subprocess.CompletedProcess[str]:
    code = (
        "from pathlib import Path\nfrom unroll.kaggle import client as kaggle\nfrom unroll.core.errors import run_program\n"
        f"run_program(lambda: kaggle.download_competition({slug!r}, Path('cache')))"
    )
    hidden = ("KAGGLE_", "HTTP", "http")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    environment |= {"KAGGLE_API_ENVIRONMENT": "TEST", "HOME": str(home), "KAGGLE_CONFIG_DIR": str(home / "none")}
    if token is not None:
        environment["KAGGLE_API_TOKEN"] = token
    return subprocess.run(
        [sys.executable, "-c", code], cwd=home, env=environment, capture_output=True, text=True, timeout=120
    )


def test_all_files_are_downloaded_and_unpacked(service: Service, tmp_path: Path) -> None:
    done = download(tmp_path)
    assert done.returncode == 0, done.stderr
    files = {file.name: file.read_bytes() for file in (tmp_path / "cache").iterdir()}
    assert files == {file.name: file.read_bytes() for file in SAMPLE.iterdir()}
    assert "DownloadDataFiles" in service.asked
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        ((403, "You must accept this competition's rules"), f"https://www.kaggle.com/c/{SLUG}/rules"),
        ((404, "Not found"), "there is no competition or dataset of this name"),
        ((400, "Bad Request"), "400: Bad Request"),
    ],
)
def test_a_refusal_is_one_sentence_with_the_next_step_and_leaves_nothing(
    service: Service, tmp_path: Path, refusal: tuple[int, str], told: str
) -> None:
    service.refusal = refusal
    done = download(tmp_path)
    assert done.returncode == 1
    assert "error: Kaggle" in done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert not (tmp_path / "cache").exists()


def test_an_unknown_competition_is_said(service: Service, tmp_path: Path) -> None:
    done = download(tmp_path, slug="no-such-competition")
    assert done.returncode == 1
    assert "error: Kaggle: no-such-competition: 404: there is no competition or dataset of this name" in done.stderr


def test_a_service_with_a_passing_fault_is_asked_again(service: Service, tmp_path: Path) -> None:
    service.faults = [
        Fault("IntrospectToken", 500),
        Fault("DownloadDataFiles", 429, "Too many requests", {"Retry-After": "2"}),
        Fault("DownloadDataFiles", 500, "Internal error"),
    ]
    done = download(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Kaggle answers 429; trying again in 2 s (1 of 4)" in done.stderr
    assert "Kaggle answers 500; trying again in 2 s (2 of 4)" in done.stderr
    assert service.asked.count("DownloadDataFiles") == 3
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_a_service_that_stays_busy_is_left_with_a_sentence(service: Service, tmp_path: Path) -> None:
    service.faults = [Fault("DownloadDataFiles", 429, "Too many", {"Retry-After": "7200"})]
    done = download(tmp_path)
    assert done.returncode == 1
    assert "429: too many requests; wait 7200 s, as the service asks, and try again" in done.stderr
    assert service.asked.count("DownloadDataFiles") == 1, "nobody waits two hours, and nobody asks before"


def test_without_a_service_it_says_so(tmp_path: Path) -> None:
    with the_port():
        done = download(tmp_path)
    assert done.returncode == 1
    assert "error: Kaggle: the service cannot be reached; check the network" in done.stderr


def test_a_download_that_breaks_off_is_resumed_where_it_was(service: Service, tmp_path: Path) -> None:
    folder = tmp_path / "large"
    shutil.copytree(SAMPLE, folder)
    (folder / "noise.bin").write_bytes(random.Random(1).randbytes(5_000_000))
    service.archive = zip_folder(folder)
    service.cut_after = 3_000_000
    done = download(tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cache/noise.bin").read_bytes() == (folder / "noise.bin").read_bytes()
    assert len(service.ranges) == 1
    assert 1_000_000 < int(service.ranges[0].removeprefix("bytes=").rstrip("-")) <= 3_000_000
    assert not list(tmp_path.glob(".cache*"))


def test_a_download_that_was_killed_is_resumed_by_the_next_call(service: Service, tmp_path: Path) -> None:
    folder = tmp_path / "large"
    shutil.copytree(SAMPLE, folder)
    (folder / "noise.bin").write_bytes(random.Random(2).randbytes(5_000_000))
    service.archive = zip_folder(folder)
    left = tmp_path / ".cache.download"
    left.mkdir()
    (left / f"{SLUG}.zip").write_bytes(service.archive[:2_000_000])
    marker = {"validator": f'"{hash(service.archive)}"', "size": len(service.archive)}
    (left / f"{SLUG}.zip.kaggle-partial").write_text(json.dumps(marker))
    done = download(tmp_path)
    assert done.returncode == 0, done.stderr
    assert service.ranges == ["bytes=2000000-"]
    assert (tmp_path / "cache/noise.bin").read_bytes() == (folder / "noise.bin").read_bytes()


def test_a_truncated_archive_is_refused(service: Service, tmp_path: Path) -> None:
    service.archive = service.archive[:-100]
    done = download(tmp_path)
    assert done.returncode == 1
    assert "not a whole zip archive" in done.stderr
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(("cache", ".cache"))]


def test_an_archive_with_a_damaged_member_is_refused_and_not_kept(service: Service, tmp_path: Path) -> None:
    whole = service.archive
    service.archive = whole[:300] + b"\xff" * 40 + whole[340:]
    done = download(tmp_path)
    assert done.returncode == 1
    assert "not a whole zip archive" in done.stderr
    assert "Traceback" not in done.stderr
    service.archive = whole
    assert download(tmp_path).returncode == 0, "the damaged one does not stand in the way"


def test_a_bad_credential_is_said_and_not_shown(service: Service, tmp_path: Path) -> None:
    done = download(tmp_path, token=TOKEN[:-1] + "x")
    assert done.returncode == 1
    assert "error: Kaggle: 401: the service does not know this credential" in done.stderr
    assert TOKEN[:-1] not in done.stdout + done.stderr
    assert "DownloadDataFiles" not in service.asked


def test_without_a_credential_it_says_how_to_get_one(service: Service, tmp_path: Path) -> None:
    done = download(tmp_path, token=None)
    assert done.returncode == 1
    assert "no credential found; set KAGGLE_API_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr
    assert "DownloadDataFiles" not in service.asked


def in_process(code: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("KAGGLE_", "HTTP", "http"))}
    environment |= {"KAGGLE_API_ENVIRONMENT": "TEST", "HOME": str(home)} | variables
    return subprocess.run([sys.executable, "-c", code], cwd=home, env=environment, capture_output=True, text=True)


def test_a_token_in_a_file_is_found_and_nobody_is_asked(tmp_path: Path) -> None:
    """The client's own import would ask the service in production."""
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle/access_token").write_text(TOKEN)
    code = (
        "import socket\n"
        "def refuse(*arguments, **options): raise AssertionError('asked the network')\n"
        "socket.create_connection = socket.getaddrinfo = refuse\n"
        "from unroll.kaggle import client as kaggle; print(kaggle.find_credential())"
    )
    done = in_process(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "access token" in done.stdout
    assert "~/.kaggle/access_token" in done.stdout
    assert TOKEN not in done.stdout


def test_a_credential_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle/access_token").write_bytes(TOKEN.encode("utf-16"))
    code = (
        "from unroll.kaggle import client as kaggle; from unroll.core.errors import run_program\n"
        "run_program(lambda: print(kaggle.find_credential()))"
    )
    done = in_process(code, tmp_path)
    assert done.returncode == 1
    assert "error: Kaggle: ~/.kaggle: the credential cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
    done = in_process(code, tmp_path, KAGGLE_API_ENVIRONMENT="PRODUCTION")
    assert "KAGGLE_API_ENVIRONMENT: found 'PRODUCTION', expected one of PROD" in done.stderr


def test_secrets_and_signed_addresses_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_KEY", "0123456789abcdef")
    shown = kaggle.hide(
        "key 0123456789abcdef at https://host/file.zip?X-Signature=abc and url: /upload/xyz (Caused by)"
    )
    assert shown == "key … at https://host/file.zip… and url: /upload/… (Caused by)"
