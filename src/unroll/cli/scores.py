"""`unroll scores` and `unroll leaderboard`: what the service made of this project's submissions."""

import json
from dataclasses import asdict
from pathlib import Path

import typer

from unroll import tracking
from unroll.cli.submit import choose_task, note_in_run, refresh, submission_lock
from unroll.core import paths
from unroll.core.errors import UnrollError
from unroll.data.competition import load_competition
from unroll.kaggle import client as kaggle
from unroll.kaggle import ledger
from unroll.kaggle.ledger import COMPLETE, PENDING, Entry


def scores(task_name: str | None, *, as_json: bool) -> None:
    """Show every submission, the newest first, after asking the service for those that have no score yet.

    Raises:
        UnrollError: there is a submission without a score, and the service cannot be asked.
    """
    wanted = load_competition(paths.competition(task_name)).name if task_name is not None else None
    with submission_lock():
        entries = [entry for entry in ledger.read_ledger(paths.LEDGER) if wanted in (None, entry.task)]
        waiting = {entry.competition for entry in entries if entry.status == PENDING}
        if waiting or any(entry.status == COMPLETE and entry.mlflow_has_score != "yes" for entry in entries):
            tracking.open_store(Path.cwd())
        if waiting:
            client = kaggle.connect()
            listed = {slug: kaggle.list_submissions(client, slug) for slug in sorted(waiting)}
            entries = [
                refresh(entry, listed[entry.competition]) if entry.status == PENDING else entry for entry in entries
            ]
        entries = [note_in_run(entry) for entry in entries]
    entries.sort(key=lambda entry: entry.submitted, reverse=True)
    if as_json:
        typer.echo(json.dumps([asdict(entry) | {"gap": entry.gap} for entry in entries], indent=2))
    elif not entries:
        typer.echo("no submissions yet; `unroll submit` makes one")
    else:
        print_table(entries)


def print_table(entries: list[Entry]) -> None:
    """Print a line a submission."""
    header = ("submitted", "task", "reference", "out of fold", "public", "gap", "private", "run", "commit", "message")
    rows = [
        (
            entry.submitted.replace("T", " ").removesuffix("Z")[:16],
            entry.task,
            entry.reference,
            f"{float(entry.out_of_fold):.4f}" if entry.out_of_fold else "–",
            entry.public_score or entry.status,
            f"{entry.gap:+.4f}" if entry.gap is not None else "–",
            entry.private_score or "–",
            entry.mlflow_run[:8] or "–",
            entry.git_commit[:7] or "–",
            entry.message if not entry.error else f"{entry.message} ({entry.error})",
        )
        for entry in entries
    ]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def leaderboard(task_name: str | None, *, top: int) -> None:
    """Show the top of the public leaderboard, and where this project's best submission stands.

    Raises:
        UnrollError: the task has no competition, or the service refuses or does not answer.
    """
    task = choose_task(task_name)
    slug = task.competition
    if slug is None:
        raise UnrollError(f"task {task.name}: belongs to no Kaggle competition, so it has no leaderboard")
    scored = [entry for entry in ledger.read_ledger(paths.LEDGER) if entry.task == task.name and entry.public_score]
    best = max(scored, key=lambda entry: float(entry.public_score), default=None)
    mine = float(best.public_score) if best is not None else None

    def enough(places: list[kaggle.LeaderboardEntry]) -> bool:
        return len(places) >= top and (mine is None or places[-1].score < mine)

    places = kaggle.leaderboard(kaggle.connect(), slug, enough)
    for number, place in enumerate(places[:top], start=1):
        typer.echo(f"{number:>5}  {place.score:<9.5f} {place.team}")
    if best is None or mine is None:
        typer.echo("this project has no score yet; `unroll submit` earns one")
        return
    rank = 1 + sum(place.score > mine for place in places)
    below = f"{places[0].score - mine:.5f} below the first" if places and places[0].score > mine else "at the top"
    typer.echo(f"{rank:>5}  {mine:<9.5f} this project's best would stand here ({best.message}), {below}")
