"""`unroll submit`: send the submission once, wait for its score, and write it beside the run that earned it."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock
import typer
from tqdm import tqdm

from unroll import tracking
from unroll.core import paths
from unroll.core.errors import UnrollError
from unroll.core.files import describe_files, read_json, sha256_of, sha256_of_file
from unroll.core.params import read_config
from unroll.data.competition import Competition, load_competition
from unroll.data.rows import read_sample_submission
from unroll.data.submission import check_submission
from unroll.kaggle import client as kaggle
from unroll.kaggle import ledger
from unroll.kaggle.downloads import SOURCE_RECORD
from unroll.kaggle.ledger import COMPLETE, FAILED, PENDING, Entry

CONFIRM_SECONDS = 60  # how long a submission may take to appear in the list
LONGEST_MESSAGE = 200  # characters
LONGEST_PAUSE = 15.0  # seconds between two looks at a pending score


@dataclass(frozen=True)
class PreparedSubmission:
    """A file that has passed the gates, and what it came from."""

    task: Competition
    slug: str
    file: Path
    record: dict[str, Any]
    scores: dict[str, Any]
    shares: dict[str, float]
    run_id: str | None
    run_tags: Mapping[str, str]

    @property
    def sha256(self) -> str:
        """Return the sha256 of the file."""
        return str(self.record["sha256"])


def submit(task_name: str, message: str, *, yes: bool, force: bool, wait: float) -> None:
    """Check, show, ask, send, confirm, wait, and remember.

    Args:
        task_name: whose submission.
        message: the description, for people.
        yes: do not ask.
        force: send a file that was sent before.
        wait: seconds to wait for the score.

    Raises:
        UnrollError: a gate, the service or the store refuses.
    """
    if len(message) > LONGEST_MESSAGE or not message.isprintable():
        raise UnrollError(
            f"--message: expected one line of at most {LONGEST_MESSAGE} characters, found {message!r:.60}"
        )
    with submission_lock():
        tracking.open_store(Path.cwd())
        prepared = preflight(load_competition(paths.competition(task_name)))
        known = [entry for entry in ledger.read_ledger(paths.LEDGER) if entry.file_sha256 == prepared.sha256]
        if not force and any(entry.task == task_name and entry.status != FAILED for entry in known):
            raise UnrollError(
                f"{prepared.file}: this very file was submitted on {known[-1].submitted} (reference "
                f"{known[-1].reference}); `unroll scores` shows its score, --force sends it again"
            )
        client = kaggle.connect()
        listed = kaggle.list_submissions(client, prepared.slug)
        references = {entry.reference for entry in known}
        sent = [
            item for item in listed
            if ledger.has_mark(item.description, prepared.sha256) and str(item.reference) not in references
            and item.status != "error"
        ]  # fmt: skip
        if sent and not force:
            # An earlier call was cut off between the upload and the ledger.
            typer.echo(f"already at Kaggle as submission {sent[0].reference}; not uploaded again")
            entry = record_submission(prepared, sent[0], message)
        else:
            left = kaggle.left_today(client, prepared.slug)
            show(prepared, kaggle.user_name(client), message, left)
            if left == 0:
                raise UnrollError(
                    f"Kaggle: {prepared.slug}: no submission is left today; the count begins anew at 00:00 UTC"
                )
            ask(yes)
            entry = send(client, prepared, message, {item.reference for item in listed})
        entry = wait_for_score(client, entry, wait)
    finish(entry)


@contextmanager
def submission_lock() -> Iterator[None]:
    """Keep other processes of this project from submitting at the same time.

    Raises:
        UnrollError: another one is at it.
    """
    paths.SUBMIT_LOCK.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(paths.SUBMIT_LOCK, timeout=0):
            yield
    except filelock.Timeout:
        raise UnrollError("another `unroll submit` or `unroll scores` is at work here; let it end first") from None


def preflight(task: Competition) -> PreparedSubmission:
    """Check that a submission is whole, new and earned by the models that stand here.

    Raises:
        UnrollError: it is not.
    """
    if task.competition is None:
        raise UnrollError(f"task {task.name}: belongs to no Kaggle competition, so there is nothing to submit to")
    path = paths.submission(task.name)
    record = read_json(paths.submission_record(task.name))
    if not path.is_file() or sha256_of_file(path) != record["sha256"]:
        raise UnrollError(f"{path}: is not the file that the pipeline wrote; `dvc repro` writes it again")
    if record["ensemble"] != sha256_of(paths.ensemble(task.name)):
        raise UnrollError(f"{path}: older than the models that stand here; `dvc repro` writes it again")
    scores = read_json(paths.metrics(task.name))
    if scores.get("ensemble_sha256") != record["ensemble"]:
        raise UnrollError(f"{paths.metrics(task.name)}: the scores of other models; `dvc repro` writes them again")
    labels = check_submission(task, path, read_sample_submission(task, paths.raw(task.name)))
    source = read_json(paths.raw(task.name) / "source.json")
    if not source["origin"].startswith("https://") and source["files"] == describe_files(
        paths.SAMPLE / task.folder, but=SOURCE_RECORD
    ):
        raise UnrollError(
            f"{path}: made from the sample in {source['origin']}, not from the competition's files; run "
            "`make repro SOURCE=kaggle`, or `make repro DATA=<folder>`"
        )
    run_id = tracking.find_run(task.name, record["ensemble"])
    return PreparedSubmission(
        task=task,
        slug=task.competition,
        file=path,
        record=record,
        scores=scores,
        shares={label: float((labels == label).mean()) for label in task.labels},
        run_id=run_id,
        run_tags=tracking.read_tags(run_id) if run_id else tracking.workspace_tags(),
    )


def show(prepared: PreparedSubmission, user: str, message: str, left: int | None) -> None:
    """Show what will be sent, where to, and what made it."""
    tags = prepared.run_tags
    weights = ", ".join(f"{cell} {weight:.2f}" for cell, weight in prepared.scores["ensemble_weights"].items())
    known = f", {prepared.record['known_labels']:,} known from training" if prepared.record["known_labels"] else ""
    commit = tags.get("git_commit", "")[:12] + (" with changes" if tags.get("git_dirty") == "yes" else "")
    lines = [
        ("file", f"{prepared.file}: {prepared.record['rows']:,} rows{known}; sha256 {prepared.sha256[:12]}"),
        ("answers", ", ".join(f"{label}: {share:.1%}" for label, share in prepared.shares.items())),
        ("made by", f"ensemble of {weights}; {prepared.task.metric} {prepared.scores['ensemble']:.4f} out of fold"),
        ("from", f"git {commit or 'no commit'}, MLflow run {prepared.run_id or 'none found'}"),
        ("to", f"{prepared.slug}, as {user or 'the owner of the credential'}"),
        ("left today", "not said" if left is None else str(left)),
        ("message", message),
    ]
    for name, value in lines:
        typer.echo(f"{name:<12}{value}")


def ask(yes: bool) -> None:
    """Ask whether to send.

    Raises:
        UnrollError: the answer is no, or nobody can be asked.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UnrollError("nothing sent: there is nobody to ask; --yes sends without asking")
    if not typer.confirm("Send it?"):
        raise UnrollError("nothing sent")


def send(client: kaggle.Client, prepared: PreparedSubmission, message: str, before: set[int]) -> Entry:
    """Upload the file and find it in the list, which alone says that it has arrived.

    Raises:
        UnrollError: it has not.
    """
    refused: UnrollError | None = None
    reference, said = 0, ""
    try:
        reference, said = kaggle.upload(client, prepared.slug, prepared.file, ledger.mark(message, prepared.sha256))
    except UnrollError as error:
        refused = error
    # A clear no has made no submission; after any other end there may be one, which is listed a little later.
    is_clear = isinstance(refused, kaggle.RefusedError) or (not reference and "could not submit" in said.lower())
    patience = time.monotonic() + (0 if is_clear else CONFIRM_SECONDS)
    while True:
        for item in kaggle.list_submissions(client, prepared.slug, pages=1):
            is_ours = item.reference == reference or ledger.has_mark(item.description, prepared.sha256)
            if item.reference not in before and is_ours:
                typer.echo(f"sent: submission {item.reference}")
                return record_submission(prepared, item, message)
        if time.monotonic() >= patience:
            break
        time.sleep(2)
    if is_clear:
        raise refused or UnrollError(
            f"Kaggle: {prepared.slug}: the upload did not arrive: it is not in the list of submissions "
            f"(the client says: {said or 'nothing'}); try again"
        )
    raise UnrollError(
        f"Kaggle: {prepared.slug}: it is not known whether the submission has arrived ({refused or said}); it is not "
        "in the list yet; wait a few minutes, then the same command looks for it before it sends"
    )


def record_submission(prepared: PreparedSubmission, item: kaggle.SubmissionInfo, message: str) -> Entry:
    """Write a submission that has arrived to the ledger, with the ids of all that it came from."""
    now = datetime.now(UTC)
    entry = Entry(
        submitted=(item.date or now).strftime("%Y-%m-%dT%H:%M:%SZ"),
        task=prepared.task.name,
        competition=prepared.slug,
        reference=str(item.reference),
        status=PENDING,
        public_score="",
        private_score="",
        out_of_fold=f"{prepared.scores['ensemble']:.6f}",
        message=message,
        file_sha256=prepared.sha256,
        ensemble_sha256=str(prepared.record["ensemble"]),
        rows=str(prepared.record["rows"]),
        mlflow_run=prepared.run_id or "",
        mlflow_has_score="no",
        git_commit=prepared.run_tags.get("git_commit", ""),
        git_dirty=prepared.run_tags.get("git_dirty", ""),
        dvc_lock_sha256=sha256_of_file(paths.DVC_LOCK) if paths.DVC_LOCK.is_file() else "",
        dvc_experiment=prepared.run_tags.get("dvc_experiment", ""),
        error="",
    )
    ledger.put_entry(paths.LEDGER, entry)
    return entry


def wait_for_score(client: kaggle.Client, entry: Entry, seconds: float) -> Entry:
    """Look at a submission until it has a score, has failed, or the time is over."""
    begin, pause = time.monotonic(), 1.0
    with tqdm(total=seconds, desc=f"waiting for the score of {entry.reference}", unit="s", leave=False,
              bar_format="{desc} {n:.0f}/{total:.0f} s", disable=not sys.stderr.isatty()) as bar:  # fmt: skip
        try:
            while True:
                listed = kaggle.list_submissions(client, entry.competition, pages=1)
                entry = refresh(entry, listed)
                passed = time.monotonic() - begin
                bar.update(min(passed, seconds) - bar.n)
                if entry.status != PENDING or passed >= seconds:
                    return entry
                time.sleep(min(pause, max(seconds - passed, 0.0)))
                pause = min(pause * 1.5, LONGEST_PAUSE)
        except KeyboardInterrupt:
            bar.close()
            print("no longer waiting; `unroll scores` fetches the score later", file=sys.stderr)
            raise


def refresh(entry: Entry, listed: list[kaggle.SubmissionInfo]) -> Entry:
    """Bring an entry up to the service's list, in the ledger and in its MLflow run."""
    found = next((item for item in listed if str(item.reference) == entry.reference), None)
    if found is None:
        return entry
    changed = replace(
        entry,
        status={"complete": COMPLETE, "error": FAILED}.get(found.status, PENDING),
        public_score="" if found.public_score is None else str(found.public_score),
        private_score="" if found.private_score is None else str(found.private_score),
        error=" ".join(found.error.split()),
    )
    if changed != entry:
        ledger.put_entry(paths.LEDGER, changed)
    return note_in_run(changed)


def note_in_run(entry: Entry) -> Entry:
    """Write the scores of a complete submission to its MLflow run, once; without that run the ledger alone has them."""
    if entry.status != COMPLETE or not entry.mlflow_run or entry.mlflow_has_score == "yes":
        return entry
    scores = {"kaggle_public_score": entry.public_score, "kaggle_private_score": entry.private_score}
    tags = {
        "kaggle_reference": entry.reference,
        "kaggle_competition": entry.competition,
        "submission_sha256": entry.file_sha256,
        "dvc_lock_sha256": entry.dvc_lock_sha256,
    }
    try:
        tracking.add_to_run(entry.mlflow_run, {name: float(text) for name, text in scores.items() if text}, tags)
    except UnrollError as error:
        print(f"warning: {error}; the score is in {paths.LEDGER}, `unroll scores` tries again", file=sys.stderr)
        return entry
    entry = replace(entry, mlflow_has_score="yes")
    ledger.put_entry(paths.LEDGER, entry)
    return entry


def finish(entry: Entry) -> None:
    """Say how it ended.

    Raises:
        UnrollError: the service could not score the file.
    """
    if entry.status == FAILED:
        reason = entry.error or "no reason given"
        raise UnrollError(f"Kaggle: {entry.competition}: submission {entry.reference} was not scored: {reason}")
    if entry.status == PENDING:
        typer.echo(f"submission {entry.reference} has no score yet; `unroll scores` fetches it later")
        return
    private = f", private {entry.private_score}" if entry.private_score else ""
    gap = f" ({entry.gap:+.4f} against {float(entry.out_of_fold):.4f} out of fold)" if entry.gap is not None else ""
    typer.echo(f"public score {entry.public_score}{private}{gap}")
    kept = f"MLflow run {entry.mlflow_run[:8]} and " if entry.mlflow_has_score == "yes" else ""
    typer.echo(f"kept in {kept}{paths.LEDGER}; `dvc repro` shows it in the report")


def choose_task(name: str | None) -> Competition:
    """Return the named task, or the one of params.yaml that has a competition.

    Raises:
        UnrollError: there is none, or several and none is named.
    """
    if name is not None:
        return load_competition(paths.competition(name))
    tasks = [load_competition(paths.competition(each)) for each in read_config(paths.PARAMS).tasks]
    with_one = [task for task in tasks if task.competition is not None]
    if len(with_one) != 1:
        raise UnrollError(f"name a task: {', '.join(task.name for task in with_one) or 'none has a competition'}")
    return with_one[0]
