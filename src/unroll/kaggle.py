"""The Kaggle service: the only importer of kaggle.

The client is imported late: importing it authenticates at once and prints help where it finds no credential.
"""

import contextlib
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import requests

from unroll.errors import UnrollError
from unroll.files import new_folder

ADVICE = {
    401: "the service does not know this credential; make a new token at https://www.kaggle.com/settings/api",
    403: "accept the competition's rules on its page, https://www.kaggle.com/c/{slug}/rules, and try again",
    404: "there is no competition of this name",
    429: "too many requests; wait a minute and try again",
}


def connect() -> Any:
    """Return a client that has authenticated.

    Raises:
        UnrollError: there is no credential, or it is not readable.
    """
    # A token in the environment would be sent to the production service by the import itself.
    token = os.environ.pop("KAGGLE_API_TOKEN", None)
    silence = io.StringIO()
    try:
        with contextlib.redirect_stdout(silence):
            from kaggle.api.kaggle_api_extended import KaggleApi
            from kagglesdk import KaggleClient
            from kagglesdk.kaggle_env import get_env
    finally:
        if token is not None:
            os.environ["KAGGLE_API_TOKEN"] = token

    class Client(KaggleApi):  # type: ignore[misc]
        """The official client, made to honour KAGGLE_API_ENVIRONMENT."""

        def build_kaggle_client(self) -> Any:
            return KaggleClient(
                env=get_env(),
                username=self.config_values.get(self.CONFIG_NAME_USER),
                password=self.config_values.get(self.CONFIG_NAME_KEY),
                api_token=self.config_values.get(self.CONFIG_NAME_TOKEN),
                response_processor=self.get_response_processor(),
            )

    client = Client()
    try:
        with contextlib.redirect_stdout(silence):
            client.authenticate()
    except requests.RequestException as error:
        raise UnrollError(f"Kaggle: {explain(error)}") from None
    except (SystemExit, OSError, ValueError):
        raise UnrollError(
            "Kaggle: no credential found; set KAGGLE_API_TOKEN, or put a token into ~/.kaggle/access_token "
            "(https://www.kaggle.com/settings/api makes one)"
        ) from None
    return client


def download_competition(slug: str, into: Path) -> None:
    """Download all files of a competition into a folder that takes its name only when the archive is whole.

    Raises:
        UnrollError: the service refuses, does not answer, or serves a damaged archive.
    """
    client = connect()
    with new_folder(into) as scratch:
        try:
            client.competition_download_files(slug, path=str(scratch), quiet=False)
        except (requests.RequestException, ValueError, OSError) as error:
            raise UnrollError(f"Kaggle: {slug}: {explain(error, slug)}") from None
        archive = scratch / f"{slug}.zip"
        try:
            with zipfile.ZipFile(archive) as content:
                content.extractall(scratch)
        except (zipfile.BadZipFile, OSError) as error:
            raise UnrollError(f"Kaggle: {archive.name}: not a whole zip archive ({error}); try again") from None
        archive.unlink()


def explain(error: Exception, slug: str = "") -> str:
    """Return what an answer of the service means and what to do."""
    response = getattr(error, "response", None)
    status = response.status_code if response is not None else None
    if status in ADVICE:
        return f"{status}: {ADVICE[status].format(slug=slug)}"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}; try again later"
