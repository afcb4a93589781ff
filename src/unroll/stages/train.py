"""Stage train: every cell on every fold that is to run; bundles, probabilities and scores."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from unroll.core import paths
from unroll.core.errors import UnrollError, run_program
from unroll.core.files import new_folder, sha256_of, write_json
from unroll.core.params import read_config
from unroll.data.competition import load_competition
from unroll.evaluation.metrics import score
from unroll.models.span_classifier import CELLS
from unroll.tracking.live import LiveFold
from unroll.tracking.runs import workspace_tags
from unroll.training.cross_validation import FoldResult, Training, TrainingData, collect_folds, load_training_data
from unroll.training.distributed import join_processes, leave_processes, relaunch
from unroll.training.parallel import train_all


def main(task_name: str, *names: str) -> None:
    """Train the cells named, or those of params.yaml, and write models/<task>/<cell>/ for each.

    Under torchrun, or with UNROLL_LAUNCH="torchrun …", several processes train together and the main one writes.
    """
    relaunch("unroll.stages.train", [task_name, *names])
    config, task = read_config(paths.PARAMS), load_competition(paths.competition(task_name))
    for name in names:
        if name not in CELLS:
            raise UnrollError(f"cell: found {name!r}, expected {', '.join(CELLS)}")
    cells, sections = names or config.cells, config.task[task.name]
    data = load_training_data(paths.corpus(task.name))
    trainings = [
        Training(task, cell, fold, sections, config.seed) for cell in cells for fold in sections.split.run_folds
    ]
    listener = LiveFold(Path.cwd(), task.name, task.metric, run_params(trainings[0]), data.digest, workspace_tags())
    results = train_all(trainings, data, cache=paths.FOLD_CACHE, listener=listener)
    is_main = join_processes().is_main
    leave_processes()
    if not is_main:
        return
    for cell in cells:
        of_cell = [pair for pair in zip(trainings, results, strict=True) if pair[0].cell == cell]
        run = write_cell(paths.model(task.name, cell), of_cell[0][0], [result for _, result in of_cell], data)
        scores = run["scores"]
        print(
            f"{task.name} {cell}: out-of-fold accuracy {scores['accuracy']:.4f}, macro-F1 {scores['macro_f1']:.4f}, "
            f"log loss {scores['log_loss']:.4f}"
        )


def write_cell(folder: Path, training: Training, results: Sequence[FoldResult], data: TrainingData) -> dict[str, Any]:
    """Write a cell's bundles and predictions, and run.json, from which its run can be logged; return its content."""
    labels, folds = training.task.labels, [result.summary() for result in results]
    out_of_fold = collect_folds(results, "valid", labels)
    truth = pd.Series(data.corpus.labels, index=data.corpus.row_ids)[out_of_fold["row_id"]]
    with new_folder(folder) as scratch:
        for result, fold in zip(results, folds, strict=True):
            target = scratch / f"fold-{fold['fold']}"
            target.mkdir()
            for name in ("bundle.json", "weights.safetensors", "history.json"):
                shutil.copyfile(result.done / name, target / name)
        out_of_fold.to_parquet(scratch / "out_of_fold.parquet", index=False)
        collect_folds(results, "test", labels).to_parquet(scratch / "test.parquet", index=False)
        run = {
            "task": training.task.name,
            "cell": training.cell,
            "digest": sha256_of(*sorted(scratch.glob("fold-*/weights.safetensors"))),
            "corpus_sha256": data.digest,
            "params": run_params(training),
            "scores": score(out_of_fold[list(labels)].to_numpy(), truth.to_numpy()),
            "folds": folds,
        }
        write_json(scratch / "run.json", run)
    return run


def run_params(training: Training) -> dict[str, Any]:
    """Return the settings that a run logs as its parameters."""
    return {"seed": training.seed, **training.config.model_dump(exclude={"ensemble", "tune"})}


if __name__ == "__main__":
    run_program(lambda: main(*sys.argv[1:]))
