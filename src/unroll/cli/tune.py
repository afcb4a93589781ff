"""`unroll tune`: search the settings that params.yaml declares; the best become a DVC experiment, never params.yaml."""

import json
import shlex
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import typer

from unroll import tracking
from unroll.core import paths
from unroll.core.errors import UnrollError
from unroll.core.params import read_config
from unroll.data.competition import load_competition
from unroll.training.cross_validation import load_training_data
from unroll.tuning.sweep import Best, Resources, run_sweep


def tune(task_name: str, *, trials: int, resources: Resources, save: bool) -> None:
    """Run the sweep, each trial an MLflow run below the sweep's, and print the command that makes the experiment."""
    config, task = read_config(paths.PARAMS), load_competition(paths.competition(task_name))
    if task.name not in config.task:
        raise UnrollError(f"{paths.PARAMS}: has no section {task.name}")
    sections, folder = config.task[task.name], paths.corpus(task.name)
    if not folder.is_dir():
        raise UnrollError(f"{folder}: no such folder; `dvc repro tokenize@{task.name}` makes it")
    data = load_training_data(folder)
    tracking.open_store(Path.cwd())
    tags = {
        **tracking.workspace_tags(),
        "task": task.name,
        "cell": sections.tune.cell,
        "corpus_sha256": data.digest,
    }
    with tracking.start_run(task.name, f"{task.name} sweep", {**tags, "sweep": "yes"}) as run:
        run.log_params({"seed": config.seed, "trials": trials, **sections.tune.model_dump()})
        watcher = _Runs(run, task.name, {**tags, "fold": str(sections.tune.fold)})
        try:
            best = run_sweep(
                task, data, sections, seed=config.seed, trials=trials, cache=paths.SWEEP_CACHE,
                resources=resources, watcher=watcher,
            )  # fmt: skip
        finally:
            watcher.close()
        run.log_scores({task.metric: best.score})
        run.set_tags({f"best.{path}": str(value) for path, value in best.values.items()})
    if best.finished < trials:
        raise UnrollError(f"{best.finished} of {trials} trials are finished; the same command goes on with the rest")
    typer.echo(f"best of {best.finished} trials: {task.metric} {best.score:.4f} on fold {sections.tune.fold}")
    command = make_command(task.name, best)
    typer.echo(f"as an experiment: {shlex.join(command)}")
    if save:
        if subprocess.run(command, check=False).returncode:
            raise UnrollError("the experiment did not end well; DVC says why above")
        typer.echo(f"`dvc exp apply {_name(task.name, best)}` takes it into the workspace")


def make_command(task: str, best: Best) -> list[str]:
    """Return what makes a DVC experiment of the best settings, in a folder of its own: params.yaml stays as it is."""
    values = [f"{task}.{path}={_as_hydra(value)}" for path, value in sorted(best.values.items())]
    targets = [f"evaluate@{task}", f"submission@{task}"]
    return ["dvc", "exp", "run", "--temp", "--force", "--name", _name(task, best),
            *(part for value in values for part in ("-S", value)), *targets]  # fmt: skip


def _name(task: str, best: Best) -> str:
    return f"tuned-{task}-{sha256(json.dumps(best.values, sort_keys=True).encode()).hexdigest()[:8]}"


def _as_hydra(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@dataclass
class _Runs:
    """A run of MLflow for each trial, below the sweep's."""

    parent: tracking.Run
    task: str
    tags: Mapping[str, str]
    open: dict[str, tuple[tracking.Run, ExitStack]] = field(default_factory=dict)

    def started(self, trial: str, values: Mapping[str, Any]) -> None:
        """Open a run; a trial that begins anew has one."""
        if trial in self.open:
            typer.echo(f"trial {trial} begins anew, its process or node was lost")
            return
        typer.echo(f"trial {trial} begins")
        stack = ExitStack()
        run = stack.enter_context(
            tracking.start_run(self.task, f"{self.task} trial {trial}", {**self.tags, "trial": trial}, self.parent)
        )
        run.log_params(values)
        self.open[trial] = (run, stack)

    def reported(self, trial: str, epoch: Mapping[str, float]) -> None:
        """Record an epoch."""
        values = {name: value for name, value in epoch.items() if name != "epoch"}
        self.open[trial][0].log_epoch(values, int(epoch["epoch"]))

    def ended(self, trial: str, score: float | None) -> None:
        """Close the run, and say what came of it."""
        if trial not in self.open:
            return
        run, stack = self.open.pop(trial)
        typer.echo(f"trial {trial} {'failed' if score is None else f'ended: {score:.4f}'}")
        if score is not None:
            run.log_scores({"score": score})
        run.set_tags({"outcome": "failed" if score is None else "finished"})
        stack.close()

    def close(self) -> None:
        """Close what is open when a sweep is stopped."""
        for run, stack in self.open.values():
            run.set_tags({"outcome": "stopped"})
            stack.close()
        self.open.clear()
