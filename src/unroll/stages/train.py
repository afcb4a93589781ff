"""Stage train: one cell on each fold that is to run; bundles, probabilities and scores."""

import shutil
import sys

import pandas as pd

from unroll.core import paths
from unroll.core.errors import run_program
from unroll.core.files import new_folder, sha256_of, write_json
from unroll.core.params import read_config
from unroll.data.competition import load_competition
from unroll.evaluation.metrics import score
from unroll.training.cross_validation import collect_folds, load_training_data, score_folds
from unroll.training.distributed import join_processes, leave_processes, relaunch
from unroll.training.parallel import FoldListener, Training, train_folds


def main(task_name: str, cell: str) -> None:
    """Write models/<task>/<cell>/ which the evaluate stage logs to MLflow.

    Under torchrun, or with UNROLL_LAUNCH="torchrun …", several processes train; the main one writes.
    """
    relaunch("unroll.stages.train", [task_name, cell])
    processes = join_processes()
    config, task = read_config(paths.PARAMS), load_competition(paths.competition(task_name))
    sections = config.task[task.name]
    data = load_training_data(paths.corpus(task.name))
    training = Training(task, cell, paths.corpus(task.name), sections, config.seed, paths.FOLD_CACHE)
    if not processes.is_main:
        train_folds(training, data, FoldListener())
        leave_processes()
        return
    rows = pd.read_parquet(paths.rows(task.name), columns=["row_id", "label"])  # the texts may be larger than memory
    truth = rows.set_index("row_id")["label"]
    results = train_folds(training, data, FoldListener())
    leave_processes()
    out_of_fold = collect_folds(results, "valid", task.labels)
    scores = score(out_of_fold[list(task.labels)].to_numpy(), truth[out_of_fold["row_id"]].to_numpy())
    with new_folder(paths.model(task.name, cell)) as scratch:
        folds = []
        for result, summary in zip(results, score_folds(results, truth), strict=True):
            fold_folder = scratch / f"fold-{result.fold}"
            fold_folder.mkdir()
            for name in ("bundle.json", "weights.safetensors", "history.json"):
                shutil.copyfile(result.folder / name, fold_folder / name)
            folds.append({"digest": sha256_of(fold_folder / "weights.safetensors"), **summary})
        out_of_fold.to_parquet(scratch / "out_of_fold.parquet", index=False)
        collect_folds(results, "test", task.labels).to_parquet(scratch / "test.parquet", index=False)
        run = {
            "task": task.name,
            "cell": cell,
            "digest": sha256_of(*sorted(scratch.glob("fold-*/weights.safetensors"))),
            "corpus_sha256": data.digest,
            "params": {"seed": config.seed, **sections.model_dump(exclude={"ensemble", "tune"})},
            "scores": scores,
            "folds": folds,
        }
        write_json(scratch / "run.json", run)
    print(f"{task.name} {cell}: out-of-fold accuracy {scores['accuracy']:.4f}, macro-F1 {scores['macro_f1']:.4f}")


if __name__ == "__main__":
    run_program(lambda: main(*sys.argv[1:]))
