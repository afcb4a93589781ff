"""`unroll compare`: scores of runs side by side, where their predictions differ, and whether that is significant."""

import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from unroll.cli.track import open_tracked
from unroll.core import paths
from unroll.core.errors import UnrollError
from unroll.core.files import read_json, sha256_of
from unroll.core.settings import CellName
from unroll.data.competition import Competition, load_competition

if TYPE_CHECKING:
    import pandas as pd

    from unroll.evaluation.comparison import Disagreement
    from unroll.tracking.queries import RunInfo

ENSEMBLE = "ensemble"
LETTERS = string.ascii_uppercase
SEED, EXAMPLES, PAIRS, MAX_EXAMPLE = 1, 5, 5, 60
SCORES = {"accuracy": "accuracy", "group_accuracy": "mean by {group}", "macro_f1": "macro-F1", "log_loss": "log loss"}


@dataclass(frozen=True)
class Side:
    """One of the runs, with its out-of-fold predictions; `run` is None for a model that MLflow has no run of."""

    argument: str
    name: str
    task: str
    run: "RunInfo | None"
    predictions: "pd.DataFrame"

    @property
    def params(self) -> Mapping[str, str]:
        """Return the run's parameters."""
        return self.run.params if self.run else {}


def compare(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="RUNS...",
            help="Two or more: an MLflow run id or its prefix, a run name (the newest with it), or task/cell, as in "
            "sentiment/LSTM or sentiment/ensemble, for the model in the workspace.",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare runs: scores, where their predictions differ, and whether that is significant.

    The first run is compared with each of the others, on the rows that all of them predicted out of fold.

    Example: unroll compare sentiment/LSTM sentiment/ensemble
    """
    from unroll.evaluation.comparison import find_disagreement, score_predictions, shared_rows

    if not 2 <= len(arguments) <= len(LETTERS):
        raise UnrollError(f"compare: found {len(arguments)} runs, expected 2 to {len(LETTERS)}")
    open_tracked(*dict.fromkeys(each.partition("/")[0] for each in arguments if _is_workspace_model(each)))
    sides = [find_side(argument) for argument in arguments]
    by_task = {side.task: f"{side.argument} is of {side.task}" for side in sides}
    if len(by_task) > 1:
        raise UnrollError(f"compare: expected runs of one task; {', '.join(by_task.values())}")
    task = load_competition(paths.competition(sides[0].task))
    for side in sides:
        if not set(task.labels) <= set(side.predictions.columns):
            raise UnrollError(f"{side.argument}: its labels are not those of {task.name}: {', '.join(task.labels)}")
    positions = shared_rows([side.predictions for side in sides], by_id=not task.is_folder_of_labels)
    if not len(positions[0]):
        counts = ", ".join(f"{side.argument} has {len(side.predictions):,}" for side in sides)
        raise UnrollError(f"compare: no row was predicted out of fold by all of them ({counts}): other data or split")
    tables = [side.predictions.iloc[rows].reset_index(drop=True) for side, rows in zip(sides, positions, strict=True)]
    scores = [score_predictions(table, task.labels) for table in tables]
    found = [find_disagreement(tables[0], table, task.labels, examples=EXAMPLES, seed=SEED) for table in tables[1:]]
    if as_json:
        content = {"task": task.name, "shared_rows": len(tables[0]), **as_content(task, sides, scores, found)}
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
        return
    lines = table_lines(task, sides, scores, len(tables[0]))
    for letter, disagreement in zip(LETTERS[1:], found, strict=False):
        lines += ["", *difference_lines(task, letter, disagreement, len(tables[0]))]
    typer.echo("\n".join(lines))


def find_side(argument: str) -> Side:
    """Find a run, or a model in the workspace, and its predictions.

    Raises:
        UnrollError: there is none, or it has no predictions.
    """
    import pandas as pd

    from unroll.evaluation.comparison import join_predictions
    from unroll.tracking import queries

    if _is_workspace_model(argument):
        name, _, cell = argument.partition("/")
        folder, rows = paths.ensemble(name) if cell == ENSEMBLE else paths.model(name, cell), paths.rows(name)
        file = folder / "out_of_fold.parquet"
        if not file.is_file() or not rows.is_file():
            raise UnrollError(f"{argument}: {file} or {rows} is missing; `dvc repro` writes them")
        digest = sha256_of(folder) if cell == ENSEMBLE else str(read_json(folder / "run.json")["digest"])
        run_id = queries.find_run(name, digest)
        predictions = join_predictions(pd.read_parquet(file), pd.read_parquet(rows))
        return Side(argument, argument, name, queries.get_run(run_id) if run_id else None, predictions)
    run = queries.look_up(argument)
    kept = queries.read_predictions(run.id)
    if kept is None:
        parent = run.tags.get("mlflow.parentRunId")
        hint = f"; compare its parent, run {parent}" if parent else ""
        raise UnrollError(f"run {argument}: has no predictions{hint}")
    return Side(argument, run.name, run.tags.get("task", ""), run, kept)


def _is_workspace_model(argument: str) -> bool:
    return argument.partition("/")[2] in {*get_args(CellName), ENSEMBLE}


def differing_params(sides: Sequence[Side]) -> dict[str, list[str]]:
    """Return each run's value of the parameters that differ; "–" where a run has none, as an ensemble of a cell's."""
    names = sorted(set[str]().union(*(side.params for side in sides)))
    values = {name: [side.params.get(name, "–") for side in sides] for name in names}
    return {name: row for name, row in values.items() if len(set(row) - {"–"}) > 1}


def table_lines(task: Competition, sides: Sequence[Side], scores: Sequence[dict[str, float]], shared: int) -> list[str]:
    """Return a table with a column for each run."""
    from unroll.evaluation.comparison import score_predictions

    rows = {
        "": list(LETTERS[: len(sides)]),
        "run": [side.name for side in sides],
        "id": [side.run.id[:8] if side.run else "–" for side in sides],
        "started": [f"{side.run.started:%Y-%m-%d %H:%M}" if side.run else "–" for side in sides],
        "rows out of fold": [f"{len(side.predictions):,}" for side in sides],
    }
    for key, title in SCORES.items():
        rows[title.format(group=task.group_name)] = [f"{score[key]:.4f}" for score in scores]
    if any(len(side.predictions) != shared for side in sides):
        own = [score_predictions(side.predictions, task.labels)["accuracy"] for side in sides]
        rows["accuracy on all its rows"] = [f"{value:.4f}" for value in own]
    lines = [[title, *row] for title, row in (rows | differing_params(sides)).items()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    return [f"{task.name}: scores on the {shared:,} rows that all runs predicted out of fold", "", *table]


def difference_lines(task: Competition, letter: str, found: "Disagreement", rows: int) -> list[str]:
    """Describe where the first run, A, and another one differ, and how significant the difference is."""
    from unroll.evaluation.significance import CONFIDENCE, DRAWS

    names, difference = task.label_names, found.difference
    if not found.rows:
        return [f"A and {letter} predict the same on every row."]
    neither = found.rows - found.only_first - found.only_second
    lines = [
        f"A and {letter} differ on {found.rows:,} of {rows:,} rows ({found.rows / rows:.1%}): A alone is correct on "
        f"{found.only_first:,}, {letter} alone on {found.only_second:,}, neither on {neither:,}",
        "  most frequent:",
        *(f"    A {names[a]}, {letter} {names[b]}: {count:,} rows" for a, b, count in found.pairs[:PAIRS]),
        "  most confident:",
    ]
    for example in found.examples:
        text = example.text if len(example.text) <= MAX_EXAMPLE else f"{example.text[: MAX_EXAMPLE - 1]}…"
        correct = "A" if example.first == example.label else letter
        lines.append(f"    {text!r}: A {names[example.first]}, {letter} {names[example.second]}; {correct} is correct")
    points, low, high = (100 * share for share in (difference.accuracy, difference.low, difference.high))
    better = letter if points > 0 else "A"
    return [
        *lines,
        f"Accuracy of {letter} minus A: {points:+.2f} points, {CONFIDENCE:.0%} interval {low:+.2f} to {high:+.2f} "
        f"({DRAWS:,} bootstrap draws of {difference.groups:,} {task.group_name}s).",
        f"McNemar's exact test, rows taken as independent: p = {difference.p_value:.2g}.",
        f"{better} is better on rows of this kind." if difference.is_clear else "No clear difference.",
    ]


def as_content(
    task: Competition, sides: Sequence[Side], scores: Sequence[dict[str, float]], found: Sequence["Disagreement"]
) -> dict[str, Any]:
    """Return everything for JSON; classes are given as labels."""
    labels = task.labels
    runs = [
        {"argument": side.argument, "name": side.name, "run_id": side.run.id if side.run else None,
         "rows": len(side.predictions), "scores": score}
        for side, score in zip(sides, scores, strict=True)
    ]  # fmt: skip
    differences = [
        {
            "first": sides[0].argument, "second": side.argument, "rows": each.rows,
            "only_first_correct": each.only_first, "only_second_correct": each.only_second,
            "predictions": [{"first": labels[a], "second": labels[b], "rows": count} for a, b, count in each.pairs],
            "examples": [
                {"text": row.text, **{key: labels[getattr(row, key)] for key in ("label", "first", "second")}}
                for row in each.examples
            ],
            **asdict(each.difference), "clear": each.difference.is_clear,
        }
        for side, each in zip(sides[1:], found, strict=True)
    ]  # fmt: skip
    return {"runs": runs, "params": differing_params(sides), "differences": differences}
