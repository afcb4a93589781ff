"""`unroll submit`: upload the submission once, wait for its score, and add the score to the MLflow run."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import filelock
import typer

from unroll.core import paths
from unroll.core.errors import UnrollError, warn
from unroll.core.files import describe_files, read_json, sha256_of, sha256_of_file
from unroll.data.competition import Competition
from unroll.kaggle.client import connect, user_name
from unroll.kaggle.competitions import left_today, list_submissions
from unroll.kaggle.ledger import COMPLETE, FAILED, PENDING, Entry, mark, put_entry, read_ledger
from unroll.kaggle.submissions import record, send, wait_for_score

if TYPE_CHECKING:
    import pandas as pd

LONGEST_MESSAGE = 200  # characters
MOST_VALUES = 20  # of a column of predictions whose shares are shown


def submit(
    task: Annotated[str, typer.Argument(help="The task whose submission to send.")],
    message: Annotated[str, typer.Option("--message", "-m", help="The description that Kaggle shows.")],
    yes: Annotated[bool, typer.Option("--yes", help="Send without confirmation.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Send a constant file, or one submitted before.")] = False,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for the score.")] = 600,
) -> None:
    """Check the submission, confirm, upload it once and wait for its score.

    Example: unroll submit sentiment -m "wider GRU"
    """
    from unroll.data.rows import load_task
    from unroll.tracking.store import open_store

    if len(message) > LONGEST_MESSAGE or not message.isprintable():
        raise UnrollError(f"--message: expected one line of at most {LONGEST_MESSAGE} characters, found {len(message)}")
    competition, file = load_task(paths.competition(task), paths.rows(task)), paths.submission(task)
    with submission_lock():
        open_store(Path.cwd())
        draft, shown = preflight(competition, message, force=force)
        known = [entry for entry in read_ledger(paths.LEDGER) if entry.file_sha256 == draft.file_sha256]
        if not force and any(entry.task == task and entry.status != FAILED for entry in known):
            raise UnrollError(
                f"{file}: this file was submitted on {known[-1].submitted} (reference {known[-1].reference}); "
                "`unroll scores` shows its score, --force uploads it again"
            )
        client = connect()
        listed = list_submissions(client, draft.competition)
        recorded = {entry.reference for entry in known}
        sent = [
            item for item in listed
            if mark(draft.file_sha256) in item.description and str(item.reference) not in recorded
            and item.status != "error"
        ]  # fmt: skip
        if sent and not force:  # an earlier call was interrupted between the upload and the ledger
            typer.echo(f"already submitted to Kaggle (submission {sent[0].reference}); not uploaded again")
            entry = record(draft, sent[0], paths.LEDGER)
        else:
            left = left_today(client, draft.competition)
            shown["to"] = f"{draft.competition}, as {user_name(client) or 'the owner of the credential'}"
            shown["left today"] = "unknown" if left is None else str(left)
            typer.echo("\n".join(f"{name:<13}{value}" for name, value in shown.items()))
            if left == 0:
                raise UnrollError(
                    f"Kaggle: {draft.competition}: no submissions left today; the limit resets at 00:00 UTC"
                )
            if not yes and not sys.stdin.isatty():
                raise UnrollError("nothing sent: confirmation needs a terminal; --yes sends without it")
            if not yes and not typer.confirm("Send it?"):
                raise UnrollError("nothing sent")
            entry = send(client, draft, file, paths.LEDGER, {item.reference for item in listed})
            typer.echo(f"sent: submission {entry.reference}")
        entry = log_scores(wait_for_score(client, entry, paths.LEDGER, wait))
    report_end(entry)


@contextmanager
def submission_lock() -> Iterator[None]:
    """Keep other processes of this project from submitting at the same time.

    Raises:
        UnrollError: another one is submitting.
    """
    paths.SUBMIT_LOCK.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(paths.SUBMIT_LOCK, timeout=0):
            yield
    except filelock.Timeout:
        raise UnrollError("another `unroll submit` or `unroll scores` is running here; wait until it ends") from None


def preflight(task: Competition, message: str, *, force: bool) -> tuple[Entry, dict[str, str]]:
    """Check that a submission is valid and was made by the current models from the competition's files.

    Returns:
        The submission's entry for the ledger, up to what the service adds, and what to show about it by name.

    Raises:
        UnrollError: it is not.
    """
    import pandas as pd

    from unroll.data.rows import SOURCE_RECORD, TEST
    from unroll.data.submission import check_submission, read_sample
    from unroll.tracking.runs import find_run, workspace_tags

    slug = _slug_of(task)
    file, info = paths.submission(task.name), read_json(paths.submission_record(task.name))
    if not file.is_file() or sha256_of_file(file) != info["sha256"]:
        raise UnrollError(f"{file}: is not the file that the pipeline wrote; `dvc repro` writes it again")
    if info["ensemble"] != sha256_of(paths.ensemble(task.name)):
        raise UnrollError(f"{file}: older than the current models; `dvc repro` writes it again")
    scores = read_json(paths.details(task.name))
    if scores.get("ensemble_sha256") != info["ensemble"]:
        raise UnrollError(f"{paths.details(task.name)}: the scores of other models; `dvc repro` writes them again")
    rows = pd.read_parquet(paths.rows(task.name), columns=["id", "part"])
    sample = read_sample(task, paths.raw(task.name), rows.loc[rows["part"] == TEST, "id"])
    predicted = check_submission(task, file, sample)
    if (predicted.nunique() <= 1).all() and not force:
        raise UnrollError(f"{file}: every row has the same prediction, {predicted.iloc[0].tolist()}; --force sends it")
    source = read_json(paths.raw(task.name) / SOURCE_RECORD)
    is_sample = source["files"] == describe_files(paths.SAMPLE / task.folder, but=SOURCE_RECORD)
    if is_sample and not source["origin"].startswith("https://"):
        raise UnrollError(
            f"{file}: made from the sample in {source['origin']}, not from the competition's files; run "
            "`make repro SOURCE=kaggle` or `make repro DATA=<folder>`"
        )
    run = find_run(task.name, info["ensemble"])
    run_id, tags = (run.info.run_id, run.data.tags) if run else ("", workspace_tags())
    draft = Entry(
        task=task.name, competition=slug, out_of_fold=f"{scores['ensemble']:.6f}", message=message,
        file_sha256=str(info["sha256"]), ensemble_sha256=str(info["ensemble"]), rows=str(info["rows"]),
        mlflow_run=run_id, dvc_lock_sha256=sha256_of_file(paths.DVC_LOCK) if paths.DVC_LOCK.is_file() else "",
        **{name: tags.get(name, "") for name in ("git_commit", "git_dirty", "dvc_experiment")},
    )  # fmt: skip
    weights = ", ".join(f"{cell} {weight:.2f}" for cell, weight in scores["ensemble_weights"].items())
    known = f", {info['known_labels']:,} known from training" if info["known_labels"] else ""
    commit = (draft.git_commit[:12] or "no commit") + (" with changes" if draft.git_dirty == "yes" else "")
    return draft, {
        "file": f"{file}: {info['rows']:,} rows{known}; sha256 {draft.file_sha256[:12]}",
        "predictions": _summarise(predicted),
        "made by": f"ensemble of {weights}; {task.metric} {scores['ensemble']:.4f} out of fold",
        "from": f"git {commit}, MLflow run {run_id or 'none found'}",
        "message": message,
    }


def _slug_of(task: Competition) -> str:
    """Return the name of the competition on Kaggle.

    Raises:
        UnrollError: there is none, or it takes no file.
    """
    if task.competition is None:
        raise UnrollError(f"task {task.name}: belongs to no Kaggle competition, so there is nothing to submit to")
    if not task.upload:
        definition = paths.competition(task.name)
        raise UnrollError(
            f"task {task.name}: {definition} says upload: false: the competition takes no file, but a notebook that "
            "makes one; put the models and the code into a Kaggle dataset, and run them in a notebook there"
        )
    return task.competition


def _summarise(predicted: "pd.DataFrame") -> str:
    """Describe columns of predictions: the share of each of a few values, or the range of many."""
    parts = []
    for name, values in predicted.items():
        if values.nunique() > MOST_VALUES:
            numbers = values.astype(float)
            parts.append(f"{name} from {numbers.min():.4g} to {numbers.max():.4g}, mean {numbers.mean():.4g}")
        else:
            parts += [
                f"{value}: {share:.1%}" for value, share in values.value_counts(normalize=True).sort_index().items()
            ]
    return ", ".join(parts)


def log_scores(entry: Entry) -> Entry:
    """Add the scores of a complete submission to its MLflow run, once; without a run the ledger alone has them."""
    from unroll.tracking.runs import log_to_run

    if entry.status != COMPLETE or not entry.mlflow_run or entry.mlflow_has_score == "yes":
        return entry
    scores = {"kaggle_public_score": entry.public_score, "kaggle_private_score": entry.private_score}
    tags = {
        "kaggle_reference": entry.reference, "kaggle_competition": entry.competition,
        "submission_sha256": entry.file_sha256, "dvc_lock_sha256": entry.dvc_lock_sha256,
    }  # fmt: skip
    try:
        metrics = {name: float(text) for name, text in scores.items() if text}
        log_to_run(entry.mlflow_run, metrics=metrics, tags=tags)
    except UnrollError as error:
        warn(f"{error}; the score is in {paths.LEDGER}, `unroll scores` tries again")
        return entry
    entry = replace(entry, mlflow_has_score="yes")
    put_entry(paths.LEDGER, entry)
    return entry


def report_end(entry: Entry) -> None:
    """Print the score and where it is kept.

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
    run = f"MLflow run {entry.mlflow_run[:8]} and " if entry.mlflow_has_score == "yes" else ""
    typer.echo(f"kept in {run}{paths.LEDGER}; `dvc repro` shows it in the report")
