"""`unroll compare`: scores of runs side by side, where their predictions differ, and whether that is significant."""

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from unroll.cli.track import open_tracked
from unroll.core import paths
from unroll.core.errors import UnrollError
from unroll.core.files import read_json, sha256_of
from unroll.core.settings import CellName

if TYPE_CHECKING:
    import pandas as pd

    from unroll.data.competition import Competition
    from unroll.tracking.runs import Run

ENSEMBLE = "ensemble"
LETTERS = string.ascii_uppercase
SEED, EXAMPLES, MAX_EXAMPLE = 1, 5, 60


@dataclass(frozen=True)
class Side:
    """One of the runs, with its out-of-fold predictions; `run` is None for a model that MLflow has no run of."""

    argument: str
    task: str
    run: "Run | None"
    predictions: "pd.DataFrame"


def compare(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="RUNS...",
            help="Two or more: an MLflow run's id, its name (the newest with it), or task/cell, as in "
            "sentiment/LSTM or sentiment/ensemble, for the model in the workspace.",
        ),
    ],
) -> None:
    """Compare runs: scores, where their predictions differ, and whether that is significant.

    The first run is compared with each of the others, on the rows that all of them predicted out of fold.

    Example: unroll compare sentiment/LSTM sentiment/ensemble
    """
    from unroll.data.rows import PREDICTED, load_task
    from unroll.evaluation.comparison import shared_rows

    if not 2 <= len(arguments) <= len(LETTERS):
        raise UnrollError(f"compare: expected 2 to {len(LETTERS)} runs, found {len(arguments)}")
    open_tracked(*dict.fromkeys(each.partition("/")[0] for each in arguments if _is_workspace_model(each)))
    sides = [find_side(argument) for argument in arguments]
    by_task = {side.task: f"{side.argument} is of {side.task}" for side in sides}
    if len(by_task) > 1:
        raise UnrollError(f"compare: expected runs of one task; {', '.join(by_task.values())}")
    task = load_task(paths.competition(sides[0].task), paths.rows(sides[0].task))
    for side in sides:
        if not {PREDICTED + output for output in task.outputs} <= set(side.predictions.columns):
            raise UnrollError(f"{side.argument}: its outputs are not those of {task.name}: {', '.join(task.outputs)}")
    positions = shared_rows([side.predictions for side in sides], by_id=task.has_ids)
    if not len(positions[0]):
        counts = ", ".join(f"{side.argument} has {len(side.predictions):,}" for side in sides)
        raise UnrollError(f"compare: no row was predicted out of fold by all of them ({counts}); other data or split")
    tables = [side.predictions.iloc[rows].reset_index(drop=True) for side, rows in zip(sides, positions, strict=True)]
    typer.echo(f"{task.name}: scores on the {len(tables[0]):,} rows that all runs predicted out of fold\n")
    typer.echo(format_scores(task, sides, tables))
    for letter, table in zip(LETTERS[1:], tables[1:], strict=False):
        typer.echo("\n" + "\n".join(describe_difference(task, letter, tables[0], table)))


def find_side(argument: str) -> Side:
    """Find a run, or a model in the workspace, and its predictions.

    Raises:
        UnrollError: there is none, or it has no predictions.
    """
    import pandas as pd

    from unroll.evaluation.comparison import join_predictions
    from unroll.tracking.runs import find_run, look_up, read_predictions

    if _is_workspace_model(argument):
        name, _, cell = argument.partition("/")
        folder, rows = paths.ensemble(name) if cell == ENSEMBLE else paths.model(name, cell), paths.rows(name)
        file = folder / "out_of_fold.parquet"
        if not file.is_file() or not rows.is_file():
            raise UnrollError(f"{argument}: {file} or {rows} is missing; `dvc repro` writes them")
        digest = sha256_of(folder) if cell == ENSEMBLE else str(read_json(folder / "run.json")["digest"])
        predictions = join_predictions(pd.read_parquet(file), pd.read_parquet(rows))
        return Side(argument, name, find_run(name, digest), predictions)
    run = look_up(argument)
    kept = read_predictions(run.info.run_id)
    if kept is None:
        parent = run.data.tags.get("mlflow.parentRunId")
        hint = f"; compare its parent, run {parent}" if parent else ""
        raise UnrollError(f"run {argument}: has no predictions{hint}")
    return Side(str(run.info.run_name), run.data.tags.get("task", ""), run, kept)


def _is_workspace_model(argument: str) -> bool:
    return argument.partition("/")[2] in {*get_args(CellName), ENSEMBLE}


def format_scores(task: "Competition", sides: Sequence[Side], tables: Sequence["pd.DataFrame"]) -> str:
    """Return a table with a column for each run: scores on the tables of shared rows, and parameters that differ."""
    import pandas as pd

    from unroll.evaluation.comparison import score_table

    lines = []
    for side, table in zip(sides, tables, strict=True):
        scores, run = score_table(table, task), side.run
        lines.append({
            "run": side.argument,
            "id": run.info.run_id[:8] if run else None,
            "started": f"{datetime.fromtimestamp(run.info.start_time / 1000, UTC):%Y-%m-%d %H:%M}" if run else None,
            "rows out of fold": f"{len(side.predictions):,}",
            **{_title(name, task): f"{value:.4f}" for name, value in scores.items()},
            f"{_title(task.metric, task)} on all its rows": f"{score_table(side.predictions, task)[task.metric]:.4f}",
        })  # fmt: skip
    params = pd.DataFrame([side.run.data.params if side.run else {} for side in sides])
    params = params.loc[:, params.nunique() > 1].sort_index(axis=1)
    table = pd.concat([pd.DataFrame(lines), params], axis=1).set_axis(list(LETTERS[: len(sides)]))
    text: str = table.T.fillna("–").to_string()
    return text


def _title(score: str, task: "Competition") -> str:
    return f"mean accuracy by {task.group_name}" if score == "group_accuracy" else score.replace("_", " ")


def describe_difference(
    task: "Competition", letter: str, first: "pd.DataFrame", other: "pd.DataFrame"
) -> Iterator[str]:
    """Yield where the predictions of the first run, A, and of another one differ, and how significant that is."""
    from unroll.evaluation.comparison import find_disagreement
    from unroll.evaluation.metrics import sign_of
    from unroll.evaluation.significance import CONFIDENCE

    found = find_disagreement(first, other, task, examples=EXAMPLES, seed=SEED)
    names, difference = task.output_names, found.difference
    if not found.rows and difference.score == 0:
        yield f"A and {letter} predict the same on every row."
        return
    if difference.p_value is not None:
        neither = found.rows - found.only_first - found.only_second
        yield (
            f"A and {letter} differ on {found.rows:,} of {len(first):,} rows ({found.rows / len(first):.1%}): A alone "
            f"is correct on {found.only_first:,}, {letter} alone on {found.only_second:,}, neither on {neither:,}"
        )
    for example in found.examples:
        text = example.text if len(example.text) <= MAX_EXAMPLE else f"{example.text[: MAX_EXAMPLE - 1]}…"
        correct = "A" if example.first == example.label else letter
        yield f"    {text!r}: A {names[example.first]}, {letter} {names[example.second]}; {correct} is correct"
    yield (
        f"{_title(task.metric, task)} of {letter} minus A: {difference.score:+.4f}, {CONFIDENCE:.0%} interval "
        f"{difference.low:+.4f} to {difference.high:+.4f} ({difference.draws:,} bootstrap draws of "
        f"{difference.groups:,} {task.group_name}s)."
    )
    if difference.p_value is not None:
        yield f"McNemar's exact test, rows taken as independent: p = {difference.p_value:.2g}."
    better = letter if sign_of(task.metric) * difference.score > 0 else "A"
    yield f"{better} is better: the interval does not contain 0." if difference.is_clear else "No clear difference."
