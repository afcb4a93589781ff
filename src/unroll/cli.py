"""`unroll`: commands for people. Heavy imports are late, so that help answers at once."""

from pathlib import Path
from typing import Annotated

import typer

from unroll import paths
from unroll.config import SourceName, read_config
from unroll.errors import UnrollError, run_program

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, rich_markup_mode=None)


@app.callback()
def main() -> None:
    """Take a Kaggle text competition from its files to a scored submission."""


@app.command()
def data(
    directory: Annotated[str, typer.Argument(help="Folder of raw files in the competition's layout.")] = "data/sample",
    source: Annotated[SourceName, typer.Option(help="Where raw files come from.")] = "local",
) -> None:
    """Choose where the next `dvc repro` takes its raw files from; both values in params.yaml are set.

    Example: unroll data ../shared/data
    """
    from unroll.tasks import load_task
    from unroll.workspace import check_repository, set_params

    check_repository(Path.cwd())
    config = read_config(paths.PARAMS)
    folder = Path(directory)
    if source == "local":
        if not folder.is_dir():
            raise UnrollError(f"DATA={directory}: no such folder")
        for name in config.tasks:
            if not (folder / load_task(name).folder).is_dir():
                raise UnrollError(
                    f"DATA={directory}: expected {load_task(name).folder}/ in it, for task {name}; "
                    "README.md shows the layout"
                )
    # A folder inside the project is written as it stands, so that the default run changes no tracked file.
    resolved, here = folder.resolve(), Path.cwd()
    chosen = resolved.relative_to(here) if resolved.is_relative_to(here) else resolved
    set_params(paths.PARAMS, "data", {"source": source, "dir": str(chosen)})


@app.command()
def results() -> None:
    """Say where the submission, the report and the runs of the last `dvc repro` are.

    Example: unroll results
    """
    from unroll.files import read_json

    config = read_config(paths.PARAMS)
    for name in config.tasks:
        scores = read_json(paths.metrics(name))
        typer.echo(f"{name}: best cell {scores['best_cell']}, {scores['metric']} {scores['best']:.4f} out of fold, "
                   f"blend {scores['blend']:.4f}")  # fmt: skip
        if read_json(paths.submission_record(name))["rows"]:
            typer.echo(f"  submission   {paths.submission(name)}")
    typer.echo(f"report         {paths.REPORT}")
    typer.echo("MLflow runs    make ui, then http://127.0.0.1:5000")


def run() -> None:
    """Run the command line: a person's mistake is one sentence and exit status 1."""
    run_program(lambda: app(prog_name="unroll"))
