"""The way of a submission: uploaded once, found in the service's list, waited for, and kept in the ledger."""

import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from unroll.core.errors import UnrollError
from unroll.kaggle.client import Client
from unroll.kaggle.competitions import RefusedError, SubmissionInfo, list_submissions, upload
from unroll.kaggle.ledger import PENDING, Entry, mark, put_entry

CONFIRM_SECONDS = 60  # how long a submission may take to appear in the list
LONGEST_PAUSE = 15.0  # seconds between two requests for a pending score


def send(client: Client, draft: Entry, file: Path, ledger: Path, before: set[int]) -> Entry:
    """Upload a file and find it in the list of submissions, which alone confirms that it has arrived.

    Args:
        client: has authenticated.
        draft: the entry of the ledger, up to what the service adds.
        file: to upload.
        ledger: file of entries, to which the submission is added.
        before: references of the submissions made before.

    Raises:
        UnrollError: it has not arrived, or that is not known.
    """
    slug, error = draft.competition, None
    reference, message = 0, ""
    try:
        reference, message = upload(client, slug, file, f"{mark(draft.file_sha256)} {draft.message}".strip())
    except UnrollError as raised:
        error = raised
    # After a refusal there is no submission; after any other end there may be one, which is listed a little later.
    is_refused = isinstance(error, RefusedError) or (not reference and "could not submit" in message.lower())
    deadline = time.monotonic() + (0 if is_refused else CONFIRM_SECONDS)
    while True:
        for item in list_submissions(client, slug, pages=1):
            is_ours = item.reference == reference or mark(draft.file_sha256) in item.description
            if item.reference not in before and is_ours:
                return record(draft, item, ledger)
        if time.monotonic() >= deadline:
            break
        time.sleep(2)
    if is_refused:
        raise error or UnrollError(f"Kaggle: {slug}: the upload was not accepted ({message}); try again")
    raise UnrollError(
        f"Kaggle: {slug}: it is not known whether the submission has arrived ({error or message}); it is not in the "
        "list yet; wait a few minutes and run the same command, which looks for it before it uploads"
    )


def record(draft: Entry, item: SubmissionInfo, ledger: Path) -> Entry:
    """Add a submission that has arrived to the ledger."""
    submitted = (item.date or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    entry = replace(draft, submitted=submitted, reference=str(item.reference), status=PENDING)
    put_entry(ledger, entry)
    return entry


def wait_for_score(client: Client, entry: Entry, ledger: Path, seconds: float) -> Entry:
    """Wait until a submission has a score or has failed, or the time is over; keep the ledger up to date."""
    print(f"waiting up to {seconds:.0f} s for the score of submission {entry.reference}", file=sys.stderr)
    deadline, pause = time.monotonic() + seconds, 1.0
    try:
        while True:
            entry = refresh(entry, list_submissions(client, entry.competition, pages=1), ledger)
            left = deadline - time.monotonic()
            if entry.status != PENDING or left <= 0:
                return entry
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, LONGEST_PAUSE)
    except KeyboardInterrupt:
        print("no longer waiting; `unroll scores` fetches the score later", file=sys.stderr)
        raise


def refresh(entry: Entry, listed: list[SubmissionInfo], ledger: Path) -> Entry:
    """Bring an entry up to the service's list of submissions, in the ledger too."""
    found = next((item for item in listed if str(item.reference) == entry.reference), None)
    if found is None:
        return entry
    changed = replace(
        entry,
        status=found.status,
        public_score="" if found.public_score is None else str(found.public_score),
        private_score="" if found.private_score is None else str(found.private_score),
        error=" ".join(found.error.split()),
    )
    if changed != entry:
        put_entry(ledger, changed)
    return changed
