"""Requests about a competition: its state, its leaderboard, and the user's submissions."""

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import requests

from unroll.core.errors import UnrollError
from unroll.kaggle.client import Client, explain, hide, requests_about
from unroll.kaggle.retry import status_of, with_retries


class RefusedError(UnrollError):
    """The service has refused a submission and made none."""


@dataclass(frozen=True)
class SubmissionInfo:
    """A submission as the service lists it; scores are None while there are none."""

    reference: int
    date: datetime | None
    description: str
    status: Literal["pending", "complete", "error"]
    public_score: float | None
    private_score: float | None
    error: str


class LeaderboardEntry(NamedTuple):
    """A line of the leaderboard."""

    team: str
    score: float


def see_competition(client: Client, slug: str) -> Any:
    """Return a competition as the service describes it: user_has_entered, submissions_disabled, max_daily_submissions.

    Raises:
        UnrollError: the request has failed.
    """
    from kagglesdk.competitions.types.competition_api_service import ApiGetCompetitionRequest

    request = ApiGetCompetitionRequest()
    request.competition_name = slug
    with requests_about(slug), client.build_kaggle_client() as service:
        return with_retries(lambda: service.competitions.competition_api_client.get_competition(request), "Kaggle")


def left_today(client: Client, slug: str) -> int | None:
    """Return how many submissions are still allowed today, None where it is not known.

    The service returns zeros, which mean nothing, for a user who has never submitted.
    """
    try:
        with requests_about(slug):
            limits = with_retries(lambda: client.competition_get_submission_limits(slug), "Kaggle")
    except UnrollError:
        return None
    has_submitted = limits.num_today or limits.num_total
    return int(limits.num_allowed_now) if limits.num_allowed_now or has_submitted else None


def list_submissions(client: Client, slug: str, pages: int = 5) -> list[SubmissionInfo]:
    """Return the user's submissions to a competition, the newest first, 100 a page.

    Raises:
        UnrollError: a request has failed.
    """
    from kagglesdk.competitions.types.competition_api_service import ApiListSubmissionsRequest

    request = ApiListSubmissionsRequest()
    request.competition_name, request.page_size = slug, 100
    found = islice(_read_pages(client, slug, "list_submissions", request), pages)
    return [_read_submission(item) for page in found for item in page if item is not None]


def leaderboard(client: Client, slug: str, enough: Callable[[list[LeaderboardEntry]], bool]) -> list[LeaderboardEntry]:
    """Return the public leaderboard from its top, page by page until `enough` returns True.

    Raises:
        UnrollError: a request has failed.
    """
    from kagglesdk.competitions.types.competition_api_service import ApiGetLeaderboardRequest

    request = ApiGetLeaderboardRequest()
    request.competition_name, request.page_size = slug, 200
    request.override_public = True  # the private one otherwise, where the competition has ended
    entries: list[LeaderboardEntry] = []
    for page in _read_pages(client, slug, "get_leaderboard", request):
        scored = [(item.team_name or str(item.team_id), _read_score(item.score)) for item in page]
        entries += [LeaderboardEntry(team, score) for team, score in scored if score is not None]
        if enough(entries):
            break
    return entries


def _read_pages(client: Client, slug: str, method: str, request: Any) -> Iterator[list[Any]]:
    """Yield the items of each page of a request."""
    with requests_about(slug), client.build_kaggle_client() as service:
        call = getattr(service.competitions.competition_api_client, method)
        while True:
            answer = with_retries(lambda: call(request), "Kaggle")
            yield answer.submissions or []
            request.page_token = answer.next_page_token or ""
            if not request.page_token:
                return


def _read_submission(found: Any) -> SubmissionInfo:
    status = str(getattr(found.status, "name", found.status)).lower()
    return SubmissionInfo(
        reference=int(found.ref or 0),
        date=found.date,
        description=found.description or "",
        status="complete" if status == "complete" else "error" if status == "error" else "pending",
        public_score=_read_score(found.public_score),
        private_score=_read_score(found.private_score),
        error=found.error_description or "",
    )


def _read_score(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def upload(client: Client, slug: str, file: Path, description: str) -> tuple[int, str]:
    """Upload a file as a submission, once, and return the reference and the message that the client gives.

    Look for the submission in list_submissions: the client returns reference 0, and no error, for an upload that was
    refused. The request is not repeated after a fault, since there may be a submission.

    Raises:
        RefusedError: the service has refused it.
        UnrollError: the service has failed or cannot be reached: there may be a submission.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            answer = client.competition_submit(str(file), description, slug, quiet=True)
    except (requests.RequestException, ValueError, OSError) as error:
        kind = RefusedError if 400 <= (status_of(error) or 0) < 500 else UnrollError
        raise kind(f"Kaggle: {slug}: {explain(error, slug)}") from None
    return int(answer.ref or 0), hide(" ".join(f"{printed.getvalue()} {answer.message or ''}".split()))
