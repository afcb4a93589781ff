"""Stage train: every cell on every fold that is to run; bundles, probabilities and scores."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from unroll.core import paths
from unroll.core.errors import UnrollError, run_stage
from unroll.core.files import MANIFEST, check_written, copy_folder, new_output, sha256_of, write_json
from unroll.core.params import read_config
from unroll.data.rows import load_task, predictions_of
from unroll.evaluation.metrics import score
from unroll.models.span_classifier import CELLS
from unroll.tracking.live import LiveFold
from unroll.tracking.runs import workspace_tags
from unroll.training.cache import FoldResult
from unroll.training.cross_validation import Training, collect_folds, refits_of
from unroll.training.distributed import join_processes, leave_processes, relaunch
from unroll.training.fold_data import TrainingData, load_training_data
from unroll.training.parallel import train_all


def main(task_name: str, *names: str) -> None:
    """Train the cells named, or those of params.yaml, and write models/<task>/<cell>/ for each.

    Under torchrun, or with UNROLL_LAUNCH="torchrun …", several processes train together and the main one writes.
    """
    relaunch("unroll.stages.train", [task_name, *names])
    config, task = read_config(paths.PARAMS), load_task(paths.competition(task_name), paths.rows(task_name))
    for name in names:
        if name not in CELLS:
            raise UnrollError(f"cell: found {name!r}, expected {', '.join(CELLS)}")
    check_written(*(paths.model(task.name, cell) for cell in CELLS))
    cells, sections = names or config.cells, config.task[task.name]
    is_pretrained = task.name in config.pretrained
    data = load_training_data(paths.pretrained(task.name) if is_pretrained else paths.corpus(task.name))
    trainings = [
        Training(task, cell, fold, sections, config.seed) for cell in cells for fold in sections.split.run_folds
    ]
    listener = LiveFold(Path.cwd(), task.name, task.metric, run_params(trainings[0]), data.digest, workspace_tags())
    results = train_all(trainings, data, cache=paths.FOLD_CACHE, listener=listener)
    pairs = list(zip(trainings, results, strict=True))
    processes = join_processes()
    refits = [each for cell in cells for each in refits_of(_of_cell(pairs, cell))] if processes.is_main else []
    refits = processes.from_main(refits)
    pairs += zip(refits, train_all(refits, data, cache=paths.FOLD_CACHE, listener=listener), strict=True)
    leave_processes()
    if not processes.is_main:
        return
    for cell in () if names else set(CELLS) - set(cells):
        shutil.rmtree(paths.model(task.name, cell), ignore_errors=True)
    for cell in cells:
        run = write_cell(paths.model(task.name, cell), _of_cell(pairs, cell), data)
        scores = ", ".join(f"{name} {value:.4f}" for name, value in run["scores"].items())
        print(f"{task.name} {cell}: out of fold {scores}")


def _of_cell(results: Sequence[tuple[Training, FoldResult]], cell: str) -> list[tuple[Training, FoldResult]]:
    return [pair for pair in results if pair[0].cell == cell]


def write_cell(folder: Path, trained: Sequence[tuple[Training, FoldResult]], data: TrainingData) -> dict[str, Any]:
    """Write a cell's bundles and predictions, and run.json, from which its run can be logged; return its content."""
    training = trained[0][0]
    results = [result for training, result in trained if training.refit is None]
    refits = [result for training, result in trained if training.refit is not None]
    task, folds = training.task, [result.summary() for result in results]
    out_of_fold = collect_folds(results, "valid", task)
    truth = pd.DataFrame(data.corpus.targets, index=data.corpus.row_ids).loc[out_of_fold["row_id"]]
    with new_output(folder) as scratch:
        for each, result in trained:
            target = scratch / f"{'fold' if each.refit is None else 'refit'}-{each.fold}"
            copy_folder(result.done, target, "*.npz", "fold.json", MANIFEST)
        out_of_fold.to_parquet(scratch / "out_of_fold.parquet", index=False)
        collect_folds(refits or results, "test", task).to_parquet(scratch / "test.parquet", index=False)
        run = {
            "task": task.name,
            "cell": training.cell,
            "digest": sha256_of(*sorted(scratch.glob("*/weights.safetensors"))),
            "corpus_sha256": data.digest,
            "params": run_params(training),
            "scores": score(task, predictions_of(out_of_fold, task), truth.to_numpy()),
            "folds": folds,
        }
        write_json(scratch / "run.json", run)
    return run


def run_params(training: Training) -> dict[str, Any]:
    """Return the settings that a run logs as its parameters."""
    return {"seed": training.seed, **training.config.model_dump(exclude={"ensemble", "tune", "pretrain"})}


if __name__ == "__main__":
    run_stage(main)
