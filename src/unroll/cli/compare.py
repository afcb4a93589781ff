"""`unroll compare`: runs side by side, where their answers differ, and whether that is more than chance."""

import json
import string
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import typer

from unroll import tracking
from unroll.core import paths
from unroll.core.errors import UnrollError
from unroll.core.files import read_json, sha256_of
from unroll.core.settings import CellName
from unroll.data.competition import Competition, load_competition
from unroll.evaluation.comparison import (
    Disagreement,
    find_disagreement,
    join_predictions,
    score_predictions,
    shared_rows,
)
from unroll.evaluation.significance import CONFIDENCE, DRAWS

ENSEMBLE = "ensemble"
SEED = 1
EXAMPLES = 5
PAIRS = 5
WIDEST = 60  # characters of an example
SCORES = {"accuracy": "accuracy", "group_accuracy": "each {group} once", "macro_f1": "macro-F1", "log_loss": "log loss"}


@dataclass(frozen=True)
class Side:
    """One of the runs.

    Attributes:
        asked: how it was named on the command line.
        name: of the run, or task/cell.
        task: its name.
        run: what MLflow knows of it, None where it knows nothing.
        answers: what it answered out of fold, as `unroll.evaluation.comparison` has it.
    """

    asked: str
    name: str
    task: str
    run: tracking.RunInfo | None
    answers: pd.DataFrame


def compare(named: Sequence[str], *, as_json: bool) -> None:
    """Compare the first run with each of the others, on the rows that all of them answered out of fold.

    Args:
        named: at least two run ids, beginnings of ids, run names, or task/cell for a model that stands here.
        as_json: give JSON.

    Raises:
        UnrollError: a run is not found or has no answers, or they have nothing in common.
    """
    if len(named) < 2:
        raise UnrollError("compare: give two runs or more, as in `unroll compare sentiment/LSTM sentiment/GRU`")
    if len(named) > len(string.ascii_uppercase):
        raise UnrollError(f"compare: {len(named)} runs; give up to {len(string.ascii_uppercase)}")
    tracking.open_store(Path.cwd())
    sides = [find_side(name) for name in named]
    names = {side.task: side for side in sides}
    if len(names) > 1:
        listed = ", ".join(f"{side.asked} is of {side.task}" for side in names.values())
        raise UnrollError(f"compare: runs of one task can be compared; {listed}")
    task = load_competition(paths.competition(sides[0].task))
    labels = list(task.labels)
    for side in sides:
        if not set(labels) <= set(side.answers.columns):
            raise UnrollError(f"{side.asked}: answered other labels than {task.name} has now: {', '.join(labels)}")
    places = shared_rows([side.answers for side in sides], by_id=not task.is_folder_of_labels)
    if not len(places[0]):
        counts = ", ".join(f"{side.asked} answered {len(side.answers):,}" for side in sides)
        raise UnrollError(
            f"compare: there is no row that all of them answered out of fold ({counts}); they come from other data or "
            "another split, and scores on other rows do not compare"
        )
    tables = [side.answers.iloc[rows].reset_index(drop=True) for side, rows in zip(sides, places, strict=True)]
    scores = [score_predictions(table, labels) for table in tables]
    found = [find_disagreement(tables[0], table, labels, examples=EXAMPLES, seed=SEED) for table in tables[1:]]
    if as_json:
        typer.echo(json.dumps(as_content(task, sides, scores, found, len(tables[0])), indent=2, ensure_ascii=False))
        return
    letters = string.ascii_uppercase
    lines = table_lines(task, sides, scores, len(tables[0]))
    for letter, disagreement in zip(letters[1:], found, strict=False):
        lines += ["", *difference_lines(task, letter, disagreement, len(tables[0]), len(found))]
    typer.echo("\n".join(lines))


def find_side(named: str) -> Side:
    """Find a run or a model of the workspace, and its answers.

    Raises:
        UnrollError: there is none, or its answers are nowhere.
    """
    task_name, _, cell = named.partition("/")
    if cell in {*get_args(CellName), ENSEMBLE}:
        return find_here(named, load_competition(paths.competition(task_name)), cell)
    run = tracking.look_up(named)
    answers = tracking.read_predictions(run.id)
    task_name, cell = run.tags.get("task", ""), run.tags.get("cell", "")
    if answers is None and task_name and cell and "fold" not in run.tags:  # from before runs kept them
        answers = read_here(task_name, cell, run.tags.get("bundle_sha256", ""))
    if answers is None:
        parent = run.tags.get("mlflow.parentRunId")
        whole = f"; it is one fold of run {parent}, compare that one" if parent else ""
        raise UnrollError(f"run {named}: kept no answers, and no model that stands here is its own{whole}")
    return Side(named, run.name, task_name, run, answers)


def find_here(named: str, task: Competition, cell: str) -> Side:
    """Return the model that stands here.

    Raises:
        UnrollError: there is none.
    """
    digest = digest_here(task.name, cell)
    answers = read_here(task.name, cell, digest) if digest else None
    if answers is None:
        raise UnrollError(f"{named}: has no model here; `dvc repro` in the project's folder trains it")
    run_id = tracking.find_run(task.name, digest)
    return Side(named, named, task.name, tracking.get_run(run_id) if run_id else None, answers)


def digest_here(task_name: str, cell: str) -> str:
    """Return the digest of a model that stands here, empty where there is none."""
    if cell == ENSEMBLE:
        return sha256_of(paths.ensemble(task_name)) if paths.ensemble(task_name).is_dir() else ""
    scores = paths.model(task_name, cell) / "scores.json"
    return str(read_json(scores)["digest"]) if scores.is_file() else ""


def read_here(task_name: str, cell: str, digest: str) -> pd.DataFrame | None:
    """Return the answers of a model that stands here, None where it is another one than the digest says."""
    folder = paths.ensemble(task_name) if cell == ENSEMBLE else paths.model(task_name, cell)
    file, rows = folder / "out_of_fold.parquet", paths.rows(task_name)
    if not digest or digest != digest_here(task_name, cell) or not file.is_file() or not rows.is_file():
        return None
    return join_predictions(pd.read_parquet(file), pd.read_parquet(rows))


def differing_settings(sides: Sequence[Side]) -> dict[str, list[str]]:
    """Return each run's value of the settings that runs do not share; an ensemble has none of the cells' own."""
    params = [side.run.params if side.run else {} for side in sides]
    values = {name: [each.get(name, "–") for each in params] for name in sorted(set(chain.from_iterable(params)))}
    return {name: row for name, row in values.items() if len(set(row) - {"–"}) > 1}


def table_lines(task: Competition, sides: Sequence[Side], scores: Sequence[dict[str, float]], shared: int) -> list[str]:
    """Return a table with a column a run."""
    rows = [
        ("", list(string.ascii_uppercase[: len(sides)])),
        ("run", [side.name for side in sides]),
        ("id", [side.run.id[:8] if side.run else "–" for side in sides]),
        ("started", [f"{side.run.started:%Y-%m-%d %H:%M}" if side.run else "–" for side in sides]),
        ("rows answered out of fold", [f"{len(side.answers):,}" for side in sides]),
    ]
    for key, title in SCORES.items():
        rows.append((title.format(group=task.group_name), [f"{score[key]:.4f}" for score in scores]))
    if any(len(side.answers) != shared for side in sides):
        own = [score_predictions(side.answers, task.labels)["accuracy"] for side in sides]
        rows.append(("accuracy on all its own rows", [f"{value:.4f}" for value in own]))
    rows += list(differing_settings(sides).items())
    widths = [max(len(row[column]) for _, row in rows) for column in range(len(sides))]
    first = max(len(title) for title, _ in rows)
    lines = [f"{task.name}: scores on the {shared:,} rows that all of them answered out of fold", ""]
    for title, row in rows:
        cells = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        lines.append(f"{title:<{first}}  {cells}".rstrip())
    return lines


def difference_lines(task: Competition, letter: str, found: Disagreement, rows: int, comparisons: int) -> list[str]:
    """Say in words where the first run, A, and another one differ, and what that is worth."""
    names = task.label_names
    if not found.rows:
        return [f"A and {letter} give the same answer on every row."]
    neither = found.rows - found.only_first - found.only_second
    lines = [
        f"A and {letter} answer {found.rows:,} of {rows:,} rows differently ({found.rows / rows:.1%}):",
        f"  A alone is right on {found.only_first:,}, {letter} alone on {found.only_second:,}, neither on {neither:,}",
        "  most frequent:",
    ]
    width = max(len(names[first]) for first, _, _ in found.pairs[:PAIRS])
    other = max(len(names[second]) for _, second, _ in found.pairs[:PAIRS])
    for first, second, count in found.pairs[:PAIRS]:
        lines.append(f"    A {names[first]:<{width}}  {letter} {names[second]:<{other}}  {count:,} rows")
    if found.examples:
        lines.append("  both sure, one right:")
        for example in found.examples:
            text = example.text if len(example.text) <= WIDEST else f"{example.text[: WIDEST - 1]}…"
            right = "A" if example.first == example.label else letter
            lines.append(f"    {text!r}: A {names[example.first]}, {letter} {names[example.second]}; {right} is right")
    return [*lines, *verdict_lines(task, letter, found, comparisons)]


def verdict_lines(task: Competition, letter: str, found: Disagreement, comparisons: int) -> list[str]:
    """Say whether the difference is more than chance."""
    difference = found.difference
    points, low, high = (100 * share for share in (difference.accuracy, difference.low, difference.high))
    better = letter if points > 0 else "A"
    if points:
        first = f"{letter} is right on {abs(points):.2f} points {'more' if points > 0 else 'fewer'} of the rows than A."
    else:
        first = f"A and {letter} are right on as many rows."
    lines = [
        f"Is one better? {first}",
        f"  If both were equally good, chance would give a difference as large {chance(difference.p_value)}",
        f"  (McNemar's exact test, p = {difference.p_value:.2g}; it takes every row for itself).",
        f"  On other rows of this kind, {CONFIDENCE:.0%} sure, it lies between {low:+.2f} and {high:+.2f} points",
        f"  ({DRAWS:,} draws of {difference.groups:,} {task.group_name}s, each with all its rows: they go together).",
    ]
    if difference.is_clear:
        lines.append(f"So: {better} is better on rows of this kind.")
        if comparisons > 1:
            lines.append(f"  Of {comparisons} comparisons, about one in twenty is clear by chance alone.")
    elif difference.p_value < 1 - CONFIDENCE:
        lines.append("So: no clear difference; the first test forgets that rows go together.")
    else:
        lines.append("So: no clear difference.")
    return lines


def chance(p_value: float) -> str:
    """Return a probability in words."""
    if p_value < 0.001:
        return "less than once in 1,000 comparisons"
    if p_value < 0.01:
        return f"in {1000 * p_value:.0f} of 1,000 comparisons"
    return f"in {100 * p_value:.0f} of 100 comparisons"


def as_content(
    task: Competition,
    sides: Sequence[Side],
    scores: Sequence[dict[str, float]],
    found: Sequence[Disagreement],
    shared: int,
) -> dict[str, Any]:
    """Return everything as JSON has it."""
    labels = task.labels
    return {
        "task": task.name,
        "shared_rows": shared,
        "runs": [
            {
                "asked": side.asked,
                "name": side.name,
                "run_id": side.run.id if side.run else None,
                "rows": len(side.answers),
                "scores": score,
            }
            for side, score in zip(sides, scores, strict=True)
        ],
        "settings": differing_settings(sides),
        "differences": [
            {
                "first": sides[0].asked,
                "second": side.asked,
                "rows": each.rows,
                "only_first_right": each.only_first,
                "only_second_right": each.only_second,
                "answers": [
                    {"first": labels[first], "second": labels[second], "rows": count}
                    for first, second, count in each.pairs
                ],
                "examples": [
                    {
                        "text": example.text,
                        "label": labels[example.label],
                        "first": labels[example.first],
                        "second": labels[example.second],
                    }
                    for example in each.examples
                ],
                **asdict(each.difference),
                "clear": each.difference.is_clear,
            }
            for side, each in zip(sides[1:], found, strict=True)
        ],
    }
