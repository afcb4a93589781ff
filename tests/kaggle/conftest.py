from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kaggle_service import SLUG, Service, serve, sign_in, zip_folder

SAMPLE = Path(__file__).parents[2] / "data/sample" / SLUG


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a user with a token, whose client turns to the stand-in and does not wait between retries."""
    sign_in(monkeypatch, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service(zip_folder(SAMPLE))
    with serve(service):
        yield service
