"""`unroll`: the command line. A command imports what is slow to load when it runs, so that --help is fast."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from unroll.cli.compare import compare
from unroll.cli.doctor import doctor
from unroll.cli.generate import generate
from unroll.cli.new import new
from unroll.cli.predict import predict
from unroll.cli.scores import leaderboard, scores
from unroll.cli.serve import serve, ui
from unroll.cli.submit import submit
from unroll.cli.track import track
from unroll.cli.tune import tune
from unroll.core import paths
from unroll.core.errors import UnrollError, run_program
from unroll.core.files import read_json
from unroll.core.params import check_repository, choose_profile, read_config, set_params
from unroll.core.settings import SourceName
from unroll.data.competition import load_competition

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    context_settings={"max_content_width": 120},
)  # fmt: skip


class ProjectCommand(TyperCommand):
    """A command that runs in the project's folder only."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command.

        Raises:
            UnrollError: the working folder has no params.yaml.
        """
        if not paths.PARAMS.is_file():
            above = [folder for folder in Path.cwd().parents if (folder / paths.PARAMS).is_file()]
            where = f", {above[0]}" if above else ""
            raise UnrollError(f"{paths.PARAMS}: no such file; run this in the project's folder{where}")
        return super().invoke(ctx)


@app.callback()
def main() -> None:
    """Take a Kaggle text competition from its files to a scored submission."""


@app.command(cls=ProjectCommand)
def data(
    directory: Annotated[str | None, typer.Argument(help="Folder of raw files in the competition's layout.")] = None,
    source: Annotated[
        SourceName | None, typer.Option(help="Where raw files are from; local if a folder is given.")
    ] = None,
    profile: Annotated[str, typer.Option(help="Name of a file of profiles/, whose values are set.")] = "default",
) -> None:
    """Set in params.yaml where the next `dvc repro` takes its raw files from, and its profile.

    What is given neither as a folder nor as --source stays as it is there.

    Example: unroll data ../competition-files --profile best
    """
    from unroll.kaggle.downloads import check_source

    check_repository(Path.cwd())
    config = read_config(paths.PARAMS)
    folder = Path(directory or config.data.dir)
    chosen = source or ("local" if directory else config.data.source)
    if chosen == "local":
        check_source(folder, paths.OUTPUTS)  # DVC's own message, before the stage could check, names neither folder
        for below in ["", *(load_competition(paths.competition(name)).folder for name in config.tasks)]:
            if not (folder / below).is_dir():
                raise UnrollError(f"{folder / below}: no such folder; README.md shows the layout of DATA=<folder>")
    # A folder inside the project stays relative, so that the default run changes no tracked file.
    resolved, here = folder.resolve(), Path.cwd()
    shortest = resolved.relative_to(here) if resolved.is_relative_to(here) else resolved
    choose_profile(paths.PARAMS, paths.PROFILES, profile)
    set_params(paths.PARAMS, {"data": {"source": chosen, "dir": str(shortest)}})


@app.command(cls=ProjectCommand)
def results() -> None:
    """Show the scores of the last `dvc repro`, and where its submissions, report and runs are.

    Example: unroll results
    """
    for name in read_config(paths.PARAMS).tasks:
        scores = read_json(paths.metrics(name))
        estimate = {key: scores.pop(key) for key in ("leaderboard", "low", "high") if key in scores}
        values = ", ".join(f"{key} {value:.4f}" for key, value in scores.items() if isinstance(value, float))
        typer.echo(f"{name}: {scores['metric']} out of fold: {values}")
        if estimate:
            shown = "{leaderboard:.4f} estimated, 95 % interval {low:.4f} to {high:.4f}".format(**estimate)
            typer.echo(f"  leaderboard  {shown}")
        if read_json(paths.submission_record(name))["rows"]:
            typer.echo(f"  submission   {paths.submission(name)}")
    typer.echo(f"report         {paths.REPORT}")
    typer.echo("MLflow runs    make ui")


for command in (new, submit, scores, leaderboard, predict, generate, compare, serve, ui, track, tune, doctor):
    app.command(cls=ProjectCommand)(command)


def run() -> None:
    """Run the command line; an error that the user can fix is one message and exit status 1."""
    run_program(lambda: app(prog_name="unroll"))
