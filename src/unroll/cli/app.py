"""`unroll`: commands for people. Heavy imports are late, so that help answers at once."""

from pathlib import Path
from typing import Annotated

import typer

from unroll.core import paths
from unroll.core.errors import UnrollError, run_program
from unroll.core.params import read_config
from unroll.core.settings import SourceName

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help=__doc__, rich_markup_mode=None, pretty_exceptions_enable=False
)


@app.callback()
def main() -> None:
    """Take a Kaggle text competition from its files to a scored submission."""


@app.command()
def data(
    directory: Annotated[str, typer.Argument(help="Folder of raw files in the competition's layout.")] = "data/sample",
    source: Annotated[SourceName, typer.Option(help="Where raw files come from.")] = "local",
    profile: Annotated[str, typer.Option(help="Which values of profiles/ to stand on.")] = "default",
) -> None:
    """Choose where the next `dvc repro` takes its raw files from, and its profile; params.yaml is set.

    Example: unroll data ../competition-files --profile best
    """
    from unroll.core.workspace import check_repository, choose_profile, set_params
    from unroll.data.competition import load_competition

    check_repository(Path.cwd())
    config = read_config(paths.PARAMS)
    folder = Path(directory)
    if source == "local":
        if not folder.is_dir():
            raise UnrollError(f"DATA={directory}: no such folder")
        for name in config.tasks:
            below = load_competition(paths.competition(name)).folder
            if not (folder / below).is_dir():
                raise UnrollError(
                    f"DATA={directory}: expected {below}/ in it, for task {name}; README.md shows the layout"
                )
    # A folder inside the project is written as it stands, so that the default run changes no tracked file.
    resolved, here = folder.resolve(), Path.cwd()
    chosen = resolved.relative_to(here) if resolved.is_relative_to(here) else resolved
    choose_profile(paths.PARAMS, paths.PROFILES, profile)
    set_params(paths.PARAMS, {"data": {"source": source, "dir": str(chosen)}})


@app.command()
def results() -> None:
    """Say where the submission, the report and the runs of the last `dvc repro` are.

    Example: unroll results
    """
    from unroll.core.files import read_json

    config = read_config(paths.PARAMS)
    for name in config.tasks:
        scores = read_json(paths.metrics(name))
        typer.echo(f"{name}: best cell {scores['best_cell']}, {scores['metric']} {scores['best']:.4f} out of fold, "
                   f"ensemble {scores['ensemble']:.4f}")  # fmt: skip
        if read_json(paths.submission_record(name))["rows"]:
            typer.echo(f"  submission   {paths.submission(name)}")
    typer.echo(f"report         {paths.REPORT}")
    typer.echo("MLflow runs    make ui")


@app.command()
def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Ask nothing of the network.")] = False,
) -> None:
    """Check what the pipeline and Kaggle need, a line a check; the status is 0 only if `make repro` can run.

    Example: unroll doctor --offline
    """
    from unroll.cli.doctor import doctor

    doctor(as_json=json, offline=offline)


@app.command()
def submit(
    task: Annotated[str, typer.Argument(help="Whose submission.")],
    message: Annotated[str, typer.Option("--message", "-m", help="What this submission is, for people.")],
    yes: Annotated[bool, typer.Option("--yes", help="Send without asking.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Send a file that was sent before.")] = False,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for the score.")] = 600,
) -> None:
    """Check the submission, show it, send it to Kaggle once, wait for its score and keep that beside the run.

    Example: unroll submit sentiment -m "wider GRU"
    """
    from unroll.cli.submit import submit

    submit(task, message, yes=yes, force=force, wait=wait)


@app.command()
def scores(
    task: Annotated[str | None, typer.Argument(help="Only this task's.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show every submission with its out-of-fold and Kaggle scores, the newest first; fetch those still pending.

    Example: unroll scores sentiment
    """
    from unroll.cli.scores import scores

    scores(task, as_json=json)


@app.command()
def leaderboard(
    task: Annotated[str | None, typer.Argument(help="Whose competition; may be left out where there is one.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many places to show.")] = 10,
) -> None:
    """Show the top of the leaderboard, and where this project's best submission would stand.

    Example: unroll leaderboard --top 20
    """
    from unroll.cli.scores import leaderboard

    leaderboard(task, top=top)


@app.command()
def predict(
    task: Annotated[str, typer.Argument(help="Whose models to ask.")],
    texts: Annotated[
        list[str],
        typer.Argument(help="Texts; or one file: .csv, .tsv, or any other with one text a line; - is standard input."),
    ],
    cell: Annotated[str | None, typer.Option("--cell", help="Ask this cell alone, not the ensemble.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many labels a text, the most probable first.")] = 1,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the answers into this file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Give JSON with every probability.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what each word or letter did to the answer.")
    ] = False,
) -> None:
    """Ask the trained models about texts of your own; a file is answered as CSV, row by row.

    A text that begins with a dash stands after --.

    Example: unroll predict surnames Nakamura "O'Brien" --top 3
    """
    from unroll.cli.predict import predict

    predict(task, texts, cell=cell, top=top, output=output, as_json=json, explained=explain)


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Two or more: an MLflow run id or its beginning, a run name (the newest of it), or task/cell, as in "
            "sentiment/LSTM or sentiment/ensemble, for the model that stands here."
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Put runs side by side: scores, where their answers differ, and whether that is more than chance.

    The first run is compared with each of the others, on the rows that all of them answered out of fold.

    Example: unroll compare sentiment/LSTM sentiment/ensemble
    """
    from unroll.cli.compare import compare

    compare(runs, as_json=json)


@app.command()
def serve(
    task: Annotated[str | None, typer.Argument(help="Whose model; the first task's where it is left out.")] = None,
    version: Annotated[int | None, typer.Option("--version", min=1, help="This one, not the champion.")] = None,
    host: Annotated[str, typer.Option("--host", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Likewise.")] = 5001,
) -> None:
    """Answer requests with a task's champion, behind MLflow's own scoring server, until interrupted.

    The request and the answer: docs/serving.md.

    Example: unroll serve surnames --port 5001
    """
    from unroll.cli.serve import serve

    serve(task, version=version, host=host, port=port)


@app.command()
def ui(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where to listen, on this machine.")] = 5000,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open it, on a desktop.")] = True,
) -> None:
    """Show MLflow's pages, opened where the runs of each task are compared, until interrupted.

    Example: unroll ui --port 5000
    """
    from unroll.cli.ui import ui

    ui(port=port, browser=browser)


@app.command()
def tune(
    task: Annotated[str, typer.Argument(help="Whose settings to search.")],
    trials: Annotated[int, typer.Option("--trials", min=1, help="How many, those of an earlier call counted.")] = 50,
    address: Annotated[
        str | None, typer.Option("--address", help="A Ray cluster's, as 10.0.0.1:6379; RAY_ADDRESS holds too.")
    ] = None,
    cpus: Annotated[float, typer.Option("--cpus", min=0, help="CPU cores that a trial takes.")] = 1,
    gpus: Annotated[float, typer.Option("--gpus", min=0, help="GPUs that a trial takes; 0.25 lets four share.")] = 0,
    save: Annotated[bool, typer.Option("--save", help="Make the DVC experiment of the best at once.")] = False,
) -> None:
    """Search the settings that params.yaml declares under `tune`; a sweep that was stopped goes on.

    Example: unroll tune sentiment --trials 50
    """
    from unroll.cli.tune import tune
    from unroll.tuning.sweep import Resources

    tune(task, trials=trials, resources=Resources(address, cpus, gpus), save=save)


def run() -> None:
    """Run the command line: a person's mistake is one sentence and exit status 1."""
    run_program(lambda: app(prog_name="unroll"))
