"""The Kaggle service: the only importer of kaggle.

The client is imported late: importing it authenticates at once, with the service in production, and prints help where
it finds no credential. Every call that may be repeated is, with_retries; what the client prints goes to standard error,
with credentials and signed addresses taken out.
"""

import contextlib
import io
import os
import re
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import requests
from requests.adapters import HTTPAdapter

from unroll.core.errors import UnrollError
from unroll.core.files import check_archive, new_folder
from unroll.core.retry import asked_wait, is_network_fault, status_of, with_retries

Client = Any  # the official client's classes are imported late and carry no types

TIMEOUT = 60.0  # seconds without a byte; the client itself would wait for ever
ENVIRONMENTS = ("PROD", "LOCALHOST", "ADMIN", "STAGING", "QA", "TEST")
ADVICE = {
    401: "the service does not know this credential; make a new token at https://www.kaggle.com/settings/api",
    403: "the service refuses; accept the rules at https://www.kaggle.com/c/{slug}/rules and try again",
    404: "there is no competition or dataset of this name",
    429: "too many requests; wait a few minutes and try again",
}

_secrets: set[str] = set()


class RefusedError(UnrollError):
    """The service has said no, and has done nothing."""


@dataclass(frozen=True)
class Credential:
    """Which credential the client would use; its value is never kept here."""

    kind: str
    place: str


@dataclass(frozen=True)
class CompetitionStatus:
    """What the service says of a competition and the person's part in it."""

    entered: bool
    closed: bool
    daily_limit: int


@dataclass(frozen=True)
class SubmissionInfo:
    """A submission as the service lists it; scores are None until there are some."""

    reference: int
    date: datetime | None
    description: str
    status: Literal["pending", "complete", "error"]
    public_score: float | None
    private_score: float | None
    error: str


@dataclass(frozen=True)
class LeaderboardEntry:
    """A line of the leaderboard."""

    team: str
    score: float


def connect() -> Client:
    """Return a client that has authenticated.

    Raises:
        UnrollError: there is no credential, it is not readable, or the service does not take it.
    """
    client = _make_client()
    try:
        with _shielded():
            with_retries(client.authenticate, "Kaggle")
    except requests.RequestException as error:
        raise UnrollError(f"Kaggle: {explain(error)}") from None
    except (SystemExit, OSError, ValueError):
        found = find_credential()
        if found is not None and found.kind == "access token":
            raise UnrollError(f"Kaggle: {found.place}: {ADVICE[401]}") from None
        raise UnrollError(
            "Kaggle: no credential found; set KAGGLE_API_TOKEN, or put a token into ~/.kaggle/access_token "
            "(https://www.kaggle.com/settings/api makes one)"
        ) from None
    for name in (client.CONFIG_NAME_TOKEN, client.CONFIG_NAME_KEY):
        if secret := client.config_values.get(name):
            _secrets.add(str(secret))
    return client


def find_credential() -> Credential | None:
    """Return which credential the client would use, without asking the service; None where there is none.

    Raises:
        UnrollError: a file that should hold one cannot be read.
    """
    client = _make_client()
    from kagglesdk.kaggle_env import get_access_token_from_env

    try:
        with _shielded():
            token, source = get_access_token_from_env()
            variables = client.read_config_environment({})
            everything = client.read_config_environment(client.read_config_file(quiet=True))
    except (OSError, ValueError) as error:
        place = getattr(error, "filename", None) or "~/.kaggle"
        reason = " ".join(str(error).split())[:100]
        raise UnrollError(f"Kaggle: {place}: the credential cannot be read ({reason}); write it again") from None
    if token:
        in_file = source == "access_token"
        return Credential("access token", "~/.kaggle/access_token" if in_file else f"the variable {source}")
    if {"username", "key"} <= variables.keys():
        return Credential("user name and key", "the variables KAGGLE_USERNAME and KAGGLE_KEY")
    if {"username", "key"} <= everything.keys():
        return Credential("user name and key", str(client.config))
    if (Path.home() / ".kaggle/credentials.json").is_file():
        return Credential("login by browser", "~/.kaggle/credentials.json")
    return None


def user_name(client: Client) -> str:
    """Return the name that the client has authenticated as."""
    return str(client.config_values.get(client.CONFIG_NAME_USER, ""))


def see_competition(client: Client, slug: str) -> CompetitionStatus:
    """Ask what a competition is and whether this person has entered it, which means to have accepted its rules.

    Raises:
        UnrollError: the service refuses or does not answer.
    """
    from kagglesdk.competitions.types.competition_api_service import ApiGetCompetitionRequest

    request = ApiGetCompetitionRequest()
    request.competition_name = slug
    with _answered(slug), client.build_kaggle_client() as service:
        found = with_retries(lambda: service.competitions.competition_api_client.get_competition(request), "Kaggle")
    return CompetitionStatus(
        entered=bool(found.user_has_entered),
        closed=bool(found.submissions_disabled),
        daily_limit=int(found.max_daily_submissions or 0),
    )


def download_competition(slug: str, into: Path) -> None:
    """Download all files of a competition into a folder that takes its name only when the archive is whole.

    A download that breaks off stays beside it and is resumed by the next call, where the served file is the same.

    Raises:
        UnrollError: the service refuses, does not answer, or serves a damaged archive.
    """
    client = connect()
    _download(lambda folder: client.competition_download_files(slug, path=folder, quiet=False), slug, into)


def download_dataset(name: str, into: Path) -> None:
    """Download all files of a dataset, named as owner/dataset; otherwise as download_competition."""
    client = connect()
    _download(lambda folder: client.dataset_download_files(name, path=folder, quiet=False), name, into)


def _download(fetch: Callable[[str], None], name: str, into: Path) -> None:
    broken_off = into.with_name(f".{into.name}.download")
    broken_off.mkdir(parents=True, exist_ok=True)
    with _answered(name):
        with_retries(lambda: fetch(str(broken_off)), "Kaggle")
    archive = broken_off / f"{name.rpartition('/')[2]}.zip"
    with new_folder(into) as scratch:
        try:
            with zipfile.ZipFile(archive) as content:
                check_archive(content, archive.name)
                content.extractall(scratch)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            shutil.rmtree(broken_off, ignore_errors=True)  # it would be taken as whole by its size
            raise UnrollError(f"Kaggle: {archive.name}: not a whole zip archive ({error}); try again") from None
        except OSError as error:
            raise UnrollError(f"{archive}: cannot be unpacked ({error.strerror or error})") from None
    shutil.rmtree(broken_off)


def left_today(client: Client, slug: str) -> int | None:
    """Return how many submissions are still allowed today, None where the service does not say.

    It answers zeros, which mean nothing, for a person who has never submitted.
    """
    try:
        with _screened():
            limits = with_retries(lambda: client.competition_get_submission_limits(slug), "Kaggle")
    except (requests.RequestException, ValueError):
        return None
    has_submitted = limits.num_today or limits.num_total
    return int(limits.num_allowed_now) if limits.num_allowed_now or has_submitted else None


def list_submissions(client: Client, slug: str, pages: int = 5) -> list[SubmissionInfo]:
    """Return this person's submissions to a competition, the newest first, 100 a page.

    Raises:
        UnrollError: the service refuses or does not answer.
    """
    from kagglesdk.competitions.types.competition_api_service import ApiListSubmissionsRequest

    listed: list[SubmissionInfo] = []
    token = ""
    with _answered(slug), client.build_kaggle_client() as service:
        for _ in range(pages):
            request = ApiListSubmissionsRequest()
            request.competition_name, request.page_size, request.page_token = slug, 100, token
            ask = service.competitions.competition_api_client.list_submissions
            answer = with_retries(lambda request=request, ask=ask: ask(request), "Kaggle")  # type: ignore[misc]
            listed += [_read_submission(found) for found in answer.submissions or [] if found is not None]
            token = answer.next_page_token or ""
            if not token:
                break
    return listed


def _read_submission(found: Any) -> SubmissionInfo:
    status = str(getattr(found.status, "name", found.status)).lower()
    return SubmissionInfo(
        reference=int(found.ref or 0),
        date=found.date,
        description=found.description or "",
        status="complete" if status == "complete" else "error" if status == "error" else "pending",
        public_score=_score(found.public_score),
        private_score=_score(found.private_score),
        error=found.error_description or "",
    )


def _score(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def upload(client: Client, slug: str, file: Path, description: str) -> tuple[int, str]:
    """Upload a file as a submission, once, and return the reference and the words that the client gives.

    That it says so does not mean that there is a submission: the client returns as if all were well when the upload
    was refused, with reference 0. Look for it in list_submissions. The call is not repeated after a fault, since the
    submission may exist all the same.

    Raises:
        RefusedError: the service has said no.
        UnrollError: the service does not answer, or with a fault of its own: there may be a submission.
    """
    screen = io.StringIO()
    try:
        with contextlib.redirect_stdout(screen):
            answer = client.competition_submit(str(file), description, slug, quiet=True)
    except (requests.RequestException, ValueError, OSError) as error:
        status = status_of(error)
        kind = RefusedError if status is not None and 400 <= status < 500 else UnrollError
        raise kind(f"Kaggle: {slug}: {explain(error, slug)}") from None
    return int(answer.ref or 0), hide(" ".join(f"{screen.getvalue()} {answer.message or ''}".split()))


def leaderboard(client: Client, slug: str, enough: Callable[[list[LeaderboardEntry]], bool]) -> list[LeaderboardEntry]:
    """Return the public leaderboard from its top, page by page until `enough` says so.

    Raises:
        UnrollError: the service refuses or does not answer.
    """
    from kagglesdk.competitions.types.competition_api_service import ApiGetLeaderboardRequest

    places: list[LeaderboardEntry] = []
    token = ""
    with _answered(slug), client.build_kaggle_client() as service:
        while True:
            request = ApiGetLeaderboardRequest()
            request.competition_name, request.page_size, request.page_token = slug, 200, token
            request.override_public = True  # the private one otherwise, where the competition has ended
            ask = service.competitions.competition_api_client.get_leaderboard
            answer = with_retries(lambda request=request, ask=ask: ask(request), "Kaggle")  # type: ignore[misc]
            for found in answer.submissions or []:
                score = _score(found.score)
                if score is not None:
                    places.append(LeaderboardEntry(found.team_name or str(found.team_id), score))
            token = answer.next_page_token or ""
            if not token or enough(places):
                return places


def explain(error: Exception, slug: str = "") -> str:
    """Return what an answer of the service means and what to do."""
    status = status_of(error)
    said = hide(" ".join(str(error).split())[:300])
    if status == 429 and asked_wait(error):
        return f"429: too many requests; wait {asked_wait(error):.0f} s, as the service asks, and try again"
    if status == 403 and "/" in slug:
        return f"403: the service refuses this dataset (it says: {said}); see https://www.kaggle.com/datasets/{slug}"
    if status in ADVICE:
        own = f" (it says: {said})" if said and status == 403 else ""
        return f"{status}: {ADVICE[status].format(slug=slug)}{own}"
    if status is not None and status >= 500:
        return f"{status}: the service has a fault of its own; try again later"
    if status is not None:
        return f"{status}: {said}"
    if is_network_fault(error):
        return "the service cannot be reached; check the network and try again"
    return f"{type(error).__name__}: {said}; try again"


def hide(text: str) -> str:
    """Take credentials and signed addresses out of a text that is about to be shown."""
    for secret in _secrets | {os.environ.get(name, "") for name in ("KAGGLE_API_TOKEN", "KAGGLE_KEY")}:
        if len(secret) > 3:
            text = text.replace(secret, "…")
    return re.sub(r"(https?://[^\s?]+|/\S*)\?\S+|/upload/\S+", lambda found: (found[1] or "/upload/") + "…", text)


@contextlib.contextmanager
def _answered(slug: str) -> Iterator[None]:
    """Turn what the client raises into one sentence, and screen what it prints."""
    try:
        with _screened():
            yield
    except (requests.RequestException, ValueError, OSError) as error:
        raise UnrollError(f"Kaggle: {slug}: {explain(error, slug)}") from None


class _Screen(io.TextIOBase):
    """Standard error, without credentials."""

    def write(self, text: str) -> int:
        return sys.stderr.write(hide(text))

    def flush(self) -> None:
        sys.stderr.flush()


@contextlib.contextmanager
def _screened() -> Iterator[None]:
    """Keep what the client prints out of our answers, which may be JSON."""
    with contextlib.redirect_stdout(_Screen()):
        yield


@contextlib.contextmanager
def _shielded() -> Iterator[None]:
    """Keep the client's help off the screen, and standard input open: its way out, `exit`, closes that."""
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


def _make_client() -> Client:
    """Return the official client, made to honour KAGGLE_API_ENVIRONMENT, before it authenticates."""
    name = os.environ.get("KAGGLE_API_ENVIRONMENT")
    if name is not None and name not in ENVIRONMENTS:
        raise UnrollError(f"KAGGLE_API_ENVIRONMENT: found {name!r}, expected one of {', '.join(ENVIRONMENTS)}")
    # The import authenticates with the service in production at once. With an empty token and a key that is none it
    # asks nobody.
    hidden = {"KAGGLE_API_TOKEN": os.devnull, "KAGGLE_USERNAME": "nobody", "KAGGLE_KEY": "none"}
    before = {variable: os.environ.get(variable) for variable in hidden}
    os.environ.update(hidden)
    try:
        with _shielded():
            from kaggle.api.kaggle_api_extended import KaggleApi
            from kagglesdk import KaggleClient
            from kagglesdk.kaggle_env import get_env
    except (SystemExit, ImportError) as error:
        raise UnrollError(f"Kaggle: the client cannot be loaded ({error}); install requirements.txt again") from None
    finally:
        for variable, value in before.items():
            if value is None:
                del os.environ[variable]
            else:
                os.environ[variable] = value

    class PatientClient(KaggleApi):  # type: ignore[misc]
        """The official client with KAGGLE_API_ENVIRONMENT and a time limit."""

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
