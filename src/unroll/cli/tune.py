"""`unroll tune`: search settings; the best become a DVC experiment, and params.yaml stays as it is."""

import json
import shlex
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer

from unroll.core import paths
from unroll.core.errors import UnrollError
from unroll.core.params import read_config
from unroll.core.settings import TaskConfig


def tune(
    task: Annotated[str, typer.Argument(help="The task whose settings to search.")],
    trials: Annotated[int, typer.Option("--trials", min=1, help="Number of trials, with those of earlier calls.")] = 50,
    address: Annotated[
        str | None, typer.Option("--address", help="Of a Ray cluster, as 10.0.0.1:6379; default: RAY_ADDRESS.")
    ] = None,
    cpus: Annotated[float, typer.Option("--cpus", min=0, help="CPU cores per trial.")] = 1,
    gpus: Annotated[float, typer.Option("--gpus", min=0, help="GPUs per trial; with 0.25 four share one.")] = 0,
    save: Annotated[bool, typer.Option("--save", help="Run the DVC experiment with the best settings.")] = False,
) -> None:
    """Search the space under `tune` in params.yaml; run it again to continue.

    Example: unroll tune sentiment --trials 50
    """
    from unroll.data.rows import load_task
    from unroll.tracking.live import LiveRun
    from unroll.tracking.runs import PARENT, workspace_tags
    from unroll.tracking.store import open_store, tracking_uri
    from unroll.training.fold_data import load_training_data
    from unroll.tuning.sweep import Sweep, run_sweep

    config, competition = read_config(paths.PARAMS), load_task(paths.competition(task), paths.rows(task))
    if task not in config.task:
        raise UnrollError(f"{paths.PARAMS}: {task}: no such section")
    stage = "pretrain" if task in config.pretrained else "tokenize"
    sections, folder = config.task[task], (paths.pretrained if stage == "pretrain" else paths.corpus)(task)
    if not folder.is_dir():
        raise UnrollError(f"{folder}: no such folder; `dvc repro {stage}@{task}` makes it")
    if stage == "pretrain":
        check_space(task, sections)
    data = load_training_data(folder)
    open_store(Path.cwd())
    tags = {"task": task, "cell": sections.tune.cell, "corpus_sha256": data.digest, **workspace_tags()}
    run = LiveRun(Path.cwd())
    params = {"seed": config.seed, "trials": trials, **sections.tune.model_dump()}
    run.begin(task, f"{task} sweep", {**tags, "sweep": "yes"}, params)
    try:
        sweep = Sweep(competition, data, sections, config.seed, address, cpus, gpus)
        run_tags = {**tags, "fold": str(sections.tune.fold), PARENT: run.id or ""}
        callback = {"tracking_uri": tracking_uri(Path.cwd()), "experiment_name": task, "tags": run_tags}
        best = run_sweep(sweep, trials, paths.SWEEP_CACHE, callback)
    except BaseException:
        run.end("KILLED")
        raise
    values = {f"best.{path}": str(value) for path, value in best.values.items()}
    run.end(metrics={f"best_{competition.metric}": best.score}, tags=values)
    if best.finished < trials:
        raise UnrollError(f"{best.finished} of {trials} trials are finished; run the same command again to continue")
    typer.echo(f"best of {best.finished} trials: {competition.metric} {best.score:.4f} on fold {sections.tune.fold}")
    name, command = make_experiment(task, best.values)
    typer.echo(f"as an experiment: {shlex.join(command)}")
    if save:
        if subprocess.run(command, check=False).returncode:
            raise UnrollError("dvc exp run failed; its message is above")
        typer.echo(f"`dvc exp apply {name}` applies it to the workspace")


def check_space(task: str, sections: TaskConfig) -> None:
    """Check that the space leaves the shape of a pretrained model as it is.

    Raises:
        UnrollError: it has another embedding, hidden size, number of layers or directions.
    """
    for name in ("embedding", "hidden", "layers", "bidirectional"):
        space, value = sections.tune.space.get(f"model.{name}"), getattr(sections.model, name)
        if space is not None and space.choices != (value,):
            raise UnrollError(
                f"{paths.PARAMS}: {task}.tune.space.model.{name}: found {space.choices or (space.low, space.high)}, "
                f"expected {{choices: [{json.dumps(value)}]}}, which the pretrained models have"
            )


def make_experiment(task: str, values: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the name of a DVC experiment with these settings and its command, which leaves the workspace alone."""
    name = f"tuned-{task}-{sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]}"
    settings = [("-S", f"++{task}.{path}={json.dumps(value)}") for path, value in sorted(values.items())]
    command = ["dvc", "exp", "run", "--temp", "--force", "--name", name]
    return name, [*command, *(part for pair in settings for part in pair), f"evaluate@{task}", f"submission@{task}"]
