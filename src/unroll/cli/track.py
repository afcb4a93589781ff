"""`unroll track`: log to MLflow what it lacks of the pipeline's outputs."""

from pathlib import Path
from typing import Annotated

import typer

from unroll.core import paths
from unroll.core.errors import UnrollError
from unroll.core.params import read_config


def track(task: Annotated[str | None, typer.Argument(help="Only this task's.")] = None) -> None:
    """Log the runs, models and figures that MLflow lacks, from the pipeline's outputs.

    Example: unroll track
    """
    names = [task] if task else read_config(paths.PARAMS).tasks
    for name, lines in open_tracked(*names).items():
        if lines is None:
            raise UnrollError(f"{name}: its outputs are incomplete; run `dvc repro` or `dvc pull`")
        typer.echo("\n".join(lines or [f"{name}: nothing is missing in MLflow"]))


def open_tracked(*task_names: str) -> dict[str, list[str] | None]:
    """Open the store, log what it lacks of the tasks, and return what was logged, None for incomplete outputs.

    Raises:
        UnrollError: an output is damaged, or the store fails.
    """
    from unroll.data.rows import load_task
    from unroll.stages.evaluate import find_outputs
    from unroll.tracking.projection import project_task
    from unroll.tracking.store import open_store

    config = read_config(paths.PARAMS)
    open_store(Path.cwd())
    tasks = [load_task(paths.competition(name), paths.rows(name)) for name in task_names]
    outputs = {task.name: find_outputs(config, task) for task in tasks}
    return {name: None if found is None else project_task(found) for name, found in outputs.items()}
