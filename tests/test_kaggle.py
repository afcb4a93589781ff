"""The real client, in a process of its own, against a stand-in of the service on the loopback."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaggle_service import TOKEN, Service, serve, zip_folder

SLUG = "sentiment-analysis-on-movie-reviews"
SAMPLE = Path(__file__).parents[1] / "data/sample" / SLUG


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service(zip_folder(SAMPLE))
    with serve(service):
        yield service


def download(home: Path, token: str | None = TOKEN) -> subprocess.CompletedProcess[str]:
    code = (
        "from pathlib import Path; from unroll import kaggle; from unroll.errors import run_program\n"
        f"run_program(lambda: kaggle.download_competition({SLUG!r}, Path('cache')))"
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
        ((404, "Not found"), "there is no competition of this name"),
        ((429, "Too many requests"), "too many requests; wait a minute"),
        ((500, "Internal error"), "try again later"),
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
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(("cache", ".cache"))]


def test_a_truncated_archive_is_refused(service: Service, tmp_path: Path) -> None:
    service.archive = service.archive[:-100]
    done = download(tmp_path)
    assert done.returncode == 1
    assert "not a whole zip archive" in done.stderr
    assert not (tmp_path / "cache").exists()


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
