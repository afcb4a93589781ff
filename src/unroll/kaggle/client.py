"""The official client, made safe to use: loaded late, patient, silent about credentials, one sentence an error.

Importing kaggle authenticates at once, with the service in production, and prints help where it finds no credential.
"""

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from unroll.core.errors import UnrollError, brief
from unroll.kaggle.retry import is_network_fault, retry_after, status_of, with_retries

Client = Any  # the official client's classes are imported late and have no types

TIMEOUT = 60.0  # seconds without a byte; the client itself would wait for ever
ENVIRONMENTS = ("PROD", "LOCALHOST", "ADMIN", "STAGING", "QA", "TEST")
ADVICE = {
    401: "the credential is not valid; make a new token at https://www.kaggle.com/settings/api",
    403: "access denied; accept the rules at https://www.kaggle.com/c/{slug}/rules and try again",
    404: "there is no competition or dataset of this name",
    429: "too many requests; wait a few minutes and try again",
}

_secrets: set[str] = set()


@dataclass(frozen=True)
class Credential:
    """Which credential the client would use, without its value."""

    kind: str
    place: str


def connect() -> Client:
    """Return a client that has authenticated.

    Raises:
        UnrollError: there is no credential, it cannot be read, or the service does not accept it.
    """
    client, credential = _make_client(), find_credential()
    try:
        with _shielded():
            with_retries(client.authenticate, "Kaggle")
    except requests.RequestException as error:
        raise UnrollError(f"Kaggle: {explain(error)}") from None
    except (SystemExit, OSError, ValueError):
        if credential is not None and credential.kind == "access token":
            raise UnrollError(f"Kaggle: {credential.place}: {ADVICE[401]}") from None
        raise UnrollError(
            "Kaggle: no credential found; set KAGGLE_API_TOKEN, or put a token into ~/.kaggle/access_token "
            "(make one at https://www.kaggle.com/settings/api)"
        ) from None
    names = (client.CONFIG_NAME_TOKEN, client.CONFIG_NAME_KEY)
    _secrets.update(str(secret) for name in names if (secret := client.config_values.get(name)))
    return client


def find_credential() -> Credential | None:
    """Return which credential the client would use, without a request; None where there is none.

    Raises:
        UnrollError: a file that should hold one cannot be read.
    """
    client = _make_client()
    from kagglesdk.kaggle_env import get_access_token_from_env

    both, file = {"username", "key"}, Path(client.config)
    try:
        token, source = get_access_token_from_env()
        if token:
            in_file = source == "access_token"
            return Credential("access token", "~/.kaggle/access_token" if in_file else f"the variable {source}")
        if both <= client.read_config_environment({}).keys():
            return Credential("user name and key", "the variables KAGGLE_USERNAME and KAGGLE_KEY")
        if file.is_file():  # the client ignores one that it cannot read
            content = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(content, dict) or not both <= content.keys():
                raise ValueError("expected username and key")
            return Credential("user name and key", str(file))
    except (OSError, ValueError) as error:
        place = getattr(error, "filename", None) or (file if file.is_file() else "~/.kaggle/access_token")
        message = f"the credential cannot be read ({brief(error, 100)}); download it again"
        raise UnrollError(f"Kaggle: {place}: {message}") from None
    if (Path.home() / ".kaggle/credentials.json").is_file():
        return Credential("login by browser", "~/.kaggle/credentials.json")
    return None


def user_name(client: Client) -> str:
    """Return the name that the client has authenticated as, "" where it is not known."""
    return str(client.config_values.get(client.CONFIG_NAME_USER, ""))


def explain(error: Exception, slug: str = "") -> str:
    """Return what an error of a request means, and what to do."""
    status, message = status_of(error), hide(brief(error, 300))
    if status == 429 and retry_after(error):
        return f"429: too many requests; wait {retry_after(error):.0f} s and try again"
    if status == 403 and "/" in slug:
        return f"403: access to this dataset denied ({message}); see https://www.kaggle.com/datasets/{slug}"
    if status in ADVICE:
        reason = f" ({message})" if message and status == 403 else ""
        return f"{status}: {ADVICE[status].format(slug=slug)}{reason}"
    if status is not None and status >= 500:
        return f"{status}: the service failed; try again later"
    if is_network_fault(error):
        return "the service cannot be reached; check the network and try again"
    return f"{status or type(error).__name__}: {message}"


def hide(text: str) -> str:
    """Remove credentials and signed addresses from a text that is about to be printed."""
    for secret in _secrets | {os.environ.get(name, "") for name in ("KAGGLE_API_TOKEN", "KAGGLE_KEY")}:
        if len(secret) > 3:
            text = text.replace(secret, "…")
    return re.sub(r"(https?://[^\s?]+|/\S*)\?\S+|/upload/\S+", lambda found: (found[1] or "/upload/") + "…", text)


@contextlib.contextmanager
def requests_about(slug: str) -> Iterator[None]:
    """Turn the client's errors into one sentence, and send what it prints to standard error, without credentials.

    Raises:
        UnrollError: a request has failed.
    """
    try:
        with contextlib.redirect_stdout(_HidingStream()):
            yield
    except (requests.RequestException, ValueError, OSError) as error:
        raise UnrollError(f"Kaggle: {slug}: {explain(error, slug)}") from None


class _HidingStream(io.TextIOBase):
    """Standard error, without credentials."""

    def write(self, text: str) -> int:
        return sys.stderr.write(hide(text))

    def flush(self) -> None:
        sys.stderr.flush()


@contextlib.contextmanager
def _shielded() -> Iterator[None]:
    """Keep the client's help off the screen, and standard input open, which its `exit` closes."""
    stdin, sys.stdin = sys.stdin, io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        sys.stdin = stdin


class _PatientAdapter(HTTPAdapter):
    """Gives up on a silent service."""

    def send(self, *arguments: Any, **options: Any) -> requests.Response:
        options["timeout"] = options.get("timeout") or TIMEOUT
        return super().send(*arguments, **options)


def load_client() -> type[Any]:
    """Import the official client's class; on its import it authenticates, without a request by what it finds here."""
    dummies = {"KAGGLE_API_TOKEN": os.devnull, "KAGGLE_USERNAME": "nobody", "KAGGLE_KEY": "none"}
    before = {variable: os.environ.get(variable) for variable in dummies}
    os.environ.update(dummies)
    try:
        with _shielded():
            from kaggle.api.kaggle_api_extended import KaggleApi
    except (SystemExit, ImportError) as error:
        raise UnrollError(f"Kaggle: the client cannot be loaded ({error}); install requirements.txt again") from None
    except OSError as error:
        raise UnrollError(
            f"Kaggle: the client cannot make its folder {error.filename} ({error.strerror}); set "
            "KAGGLE_CONFIG_DIR to a folder that can be written"
        ) from None
    finally:
        for variable, value in before.items():
            del os.environ[variable]
            if value is not None:
                os.environ[variable] = value
    return KaggleApi  # type: ignore[no-any-return]


def _make_client() -> Client:
    """Return the official client, with KAGGLE_API_ENVIRONMENT and a time limit, before it authenticates."""
    name = os.environ.get("KAGGLE_API_ENVIRONMENT", "PROD")
    if name not in ENVIRONMENTS:
        raise UnrollError(f"KAGGLE_API_ENVIRONMENT: found {name!r}, expected one of {', '.join(ENVIRONMENTS)}")
    base = load_client()
    from kagglesdk import KaggleClient
    from kagglesdk.kaggle_env import get_env

    class PatientClient(base):  # type: ignore[misc, valid-type]
        def build_kaggle_client(self) -> Any:
            client = KaggleClient(
                env=get_env(),
                username=self.config_values.get(self.CONFIG_NAME_USER),
                password=self.config_values.get(self.CONFIG_NAME_KEY),
                api_token=self.config_values.get(self.CONFIG_NAME_TOKEN),
                response_processor=self.get_response_processor(),
            )
            http = client.http_client()
            http._init_session()
            for scheme in ("http://", "https://"):
                http._session.mount(scheme, _PatientAdapter())
            return client

    return PatientClient()
