"""`unroll new`: a competition's definition, proposed from its files."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unroll.core import paths
from unroll.core.errors import UnrollError
from unroll.core.files import copy_folder, new_file
from unroll.core.params import set_params
from unroll.core.settings import SourceName
from unroll.data.competition import METRICS, Kind, parse_competition

if TYPE_CHECKING:
    from unroll.cli.proposal import Proposal

Column = Annotated[str | None, typer.Option(help="A column; by default guessed.")]
Columns = Annotated[list[str] | None, typer.Option(help="A column; may be given several times.")]


def new(
    place: Annotated[str, typer.Argument(help="Folder of the competition's files; with --source kaggle, its name.")],
    name: Annotated[
        str | None, typer.Option(help="The task's name; by default the first word of the competition's.")
    ] = None,
    source: Annotated[SourceName, typer.Option(help="kaggle: download the files first.")] = "local",
    target: Columns = None,
    text: Columns = None,
    id: Column = None,  # noqa: A002 the option's name
    group: Column = None,
    kind: Annotated[Kind | None, typer.Option(help="Of target; by default guessed.")] = None,
    metric: Annotated[str | None, typer.Option(help=f"One of {', '.join(METRICS)}.")] = None,
    only: Annotated[
        bool, typer.Option("--only", help="Let the next `dvc repro` run this task alone, on these files.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a definition of this name.")] = False,
) -> None:
    """Look at a competition's files and write competitions/<task>.yaml; docs/competitions.md explains its keys.

    Example: unroll new ../files/spooky-author-identification --only
    """
    from unroll.cli.proposal import UndecidedError, propose

    folder = Path(place)
    if source == "kaggle":
        from unroll.kaggle.downloads import download_competition

        folder = download_competition(place, paths.COMPETITION_FILES)
    task = name or folder.resolve().name.split("-")[0].lower()
    path = paths.competition(task)
    if path.exists() and not force:
        raise UnrollError(f"{path}: exists; give another --name, or --force to replace it")
    options: dict[str, Any] = {"target": target, "text": text, "id": id, "group": group, "kind": kind, "metric": metric}
    given = {key: value for key, value in options.items() if value}
    try:
        found = propose(folder.resolve(), given)
    except UndecidedError as error:
        if not sys.stdin.isatty():
            raise
        answer = typer.prompt(f"{error}\ncolumns, with commas between them")
        found = propose(folder.resolve(), {**given, "target": [column.strip() for column in answer.split(",")]})
    if "metric" in found.unsure and sys.stdin.isatty():
        fitting = [each for each, kinds in METRICS.items() if found.keys["target"]["kind"] in kinds]
        found.keys["metric"] = typer.prompt(f"metric (one of {', '.join(fitting)})", default=found.keys["metric"])
    parse_competition(found.keys, path)
    show(found)
    write_definition(path, found.keys)
    typer.echo(f"written: {path}")
    if only:
        own = paths.COMPETITION_FILES / folder.resolve().name
        if folder.resolve() != own.resolve():  # DVC reads all of data.dir, and the folder above may hold anything
            copy_folder(folder, own)
            typer.echo(f"copied: {folder} to {own}")
        data = {"source": "local", "dir": str(paths.COMPETITION_FILES)}
        set_params(paths.PARAMS, {"tasks": [task], "pretrained": [], "data": data})
        typer.echo("next: dvc repro")
    else:
        typer.echo(
            f"next: add {task} to `tasks` in {paths.PARAMS}, then run `unroll data {folder.parent}` and `dvc repro`"
        )


def show(found: "Proposal") -> None:
    """Print each key, its value, and what it was guessed from."""
    width = max(map(len, found.keys))
    for key, value in found.keys.items():
        shown, mark = json.dumps(value, ensure_ascii=False), "  ← please check" if key in found.unsure else ""
        typer.echo(f"{key:<{width}}  {shown if len(shown) <= 70 else shown[:69] + '…'}")
        typer.echo(f"{'':<{width}}    {found.reasons[key]}{mark}")


def write_definition(path: Path, keys: dict[str, Any]) -> None:
    """Write a definition as YAML, each value in one line, as JSON has it."""
    shown = {key: json.dumps(value, ensure_ascii=False) for key, value in keys.items()}
    # YAML has no control characters but as escapes
    lines = [f"{key}: {text if text.isprintable() else json.dumps(keys[key])}\n" for key, text in shown.items()]
    with new_file(path) as scratch:
        scratch.write_text("".join(lines), encoding="utf-8")
