"""`unroll scores` and `unroll leaderboard`: the scores of this project's submissions."""

from pathlib import Path
from typing import Annotated

import typer

from unroll.cli.submit import log_scores, submission_lock
from unroll.core import paths
from unroll.core.errors import UnrollError
from unroll.core.params import read_config
from unroll.data.competition import Competition, load_competition
from unroll.kaggle import competitions
from unroll.kaggle.client import connect
from unroll.kaggle.ledger import COMPLETE, PENDING, Entry, read_ledger
from unroll.kaggle.submissions import refresh


def scores(task: Annotated[str | None, typer.Argument(help="Only this task's.")] = None) -> None:
    """Show every submission with its scores, the newest first; fetch those still missing.

    Example: unroll scores sentiment
    """
    from unroll.tracking.store import open_store

    wanted = load_competition(paths.competition(task)).name if task is not None else None
    with submission_lock():
        entries = [entry for entry in read_ledger(paths.LEDGER) if wanted in (None, entry.task)]
        pending = {entry.competition for entry in entries if entry.status == PENDING}
        if pending or any(entry.status == COMPLETE and entry.mlflow_has_score != "yes" for entry in entries):
            open_store(Path.cwd())
        if pending:
            client = connect()
            listed = {slug: competitions.list_submissions(client, slug) for slug in sorted(pending)}
            entries = [refresh(entry, listed.get(entry.competition, []), paths.LEDGER) for entry in entries]
        entries = [log_scores(entry) for entry in entries]
    entries.sort(key=lambda entry: entry.submitted, reverse=True)
    typer.echo(format_entries(entries) if entries else "no submissions yet; `unroll submit` makes one")


def format_entries(entries: list[Entry]) -> str:
    """Return a table with a line a submission."""
    import pandas as pd

    table = pd.DataFrame({
        "submitted": [entry.submitted.replace("T", " ")[:16] for entry in entries],
        "task": [entry.task for entry in entries],
        "reference": [entry.reference for entry in entries],
        "out of fold": [f"{float(entry.out_of_fold):.4f}" if entry.out_of_fold else "" for entry in entries],
        "public": [entry.public_score or entry.status for entry in entries],
        "gap": [f"{entry.gap:+.4f}" if entry.gap is not None else "" for entry in entries],
        "private": [entry.private_score for entry in entries],
        "run": [entry.mlflow_run[:8] for entry in entries],
        "commit": [entry.git_commit[:7] for entry in entries],
        "message": [entry.message + (f" ({entry.error})" if entry.error else "") for entry in entries],
    })  # fmt: skip
    text: str = table.replace("", "–").to_string(index=False, max_colwidth=None)
    return text


def leaderboard(
    task: Annotated[str | None, typer.Argument(help="Optional if only one task has a competition.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many places to show.")] = 10,
) -> None:
    """Show the top of the public leaderboard, and the place of this project's best submission in it.

    Example: unroll leaderboard --top 20
    """
    from unroll.evaluation.metrics import sign_of

    competition = choose_task(task)
    if competition.competition is None:
        raise UnrollError(f"task {competition.name}: belongs to no Kaggle competition, so it has no leaderboard")
    scored = [entry for entry in read_ledger(paths.LEDGER) if entry.task == competition.name and entry.public_score]
    sign = sign_of(competition.metric)
    best = max(scored, key=lambda entry: sign * float(entry.public_score), default=None)
    score = float(best.public_score) if best is not None else None

    def enough(entries: list[competitions.LeaderboardEntry]) -> bool:
        return len(entries) >= top and (score is None or sign * entries[-1].score < sign * score)

    entries = competitions.leaderboard(connect(), competition.competition, enough)
    for number, entry in enumerate(entries[:top], start=1):
        typer.echo(f"{number:>5}  {entry.score:<9.5f} {entry.team}")
    if best is None or score is None:
        typer.echo("this project has no score yet; `unroll submit` makes a submission")
        return
    rank = 1 + sum(sign * entry.score > sign * score for entry in entries)
    below = f"{abs(entries[0].score - score):.5f} from the first" if rank > 1 else "at the top"
    typer.echo(f"{rank:>5}  {score:<9.5f} this project's best ({best.message}), {below}")


def choose_task(name: str | None) -> Competition:
    """Return the named task, or the only one of params.yaml that has a competition.

    Raises:
        UnrollError: there is none, or several and none is named.
    """
    if name is not None:
        return load_competition(paths.competition(name))
    tasks = [load_competition(paths.competition(each)) for each in read_config(paths.PARAMS).tasks]
    candidates = [task for task in tasks if task.competition is not None]
    if len(candidates) != 1:
        if not candidates:
            raise UnrollError("params.yaml: tasks: none has a Kaggle competition")
        raise UnrollError(f"several tasks have a competition; name one: {', '.join(task.name for task in candidates)}")
    return candidates[0]
