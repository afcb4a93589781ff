"""Stage train: one cell on each fold that is to run; bundles, probabilities and scores."""

import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pyarrow.parquet as parquet

import unroll
from unroll import paths, tracking
from unroll.config import read_config
from unroll.errors import run_program
from unroll.files import new_folder, sha256_of, write_json
from unroll.folds import collect_folds, load_material, score_folds, train_fold
from unroll.metrics import score
from unroll.processes import join_processes, leave_processes, relaunch
from unroll.tasks import load_task
from unroll.train import EpochRecord


def main(task_name: str, cell: str) -> None:
    """Write models/<task>/<cell>/ and remember the training in MLflow.

    Under torchrun, or with UNROLL_LAUNCH="torchrun …", several processes train; the main one writes and remembers.
    """
    relaunch("unroll.stages.train", [task_name, cell])
    processes = join_processes()
    config, task = read_config(paths.PARAMS), load_task(task_name)
    sections = config.task[task.name]
    material = load_material(paths.corpus(task.name))
    if not processes.is_main:
        for fold in sections.split.run_folds:
            train_fold(task, cell, fold, material, sections, seed=config.seed, cache=paths.FOLD_CACHE)
        leave_processes()
        return
    rows = pd.read_parquet(paths.rows(task.name), columns=["row_id", "label"])  # the texts may be larger than memory
    truth = rows.set_index("row_id")["label"]

    tracking.open_store(Path.cwd())
    tags = {**tracking.workspace_tags(), "task": task.name, "cell": cell, "corpus_sha256": material.digest,
            "processes": str(processes.count)}  # fmt: skip
    with tracking.start_run(task.name, tracking.name_run(task.name, cell), tags) as run:
        run.log_params({"seed": config.seed, "cell": cell, **sections.model_dump(exclude={"blend", "tune"})})
        run.log_dataset(rows, origin=str(paths.rows(task.name)), name=task.name, label="label", context="training")
        results = []
        for fold in sections.split.run_folds:
            fold_tags = {**tags, "fold": str(fold)}
            name = tracking.name_run(task.name, cell, "fold", fold)
            with tracking.start_run(task.name, name, fold_tags, parent=run) as child:
                child.log_params({"seed": config.seed, "cell": cell, "fold": fold, **sections.train.model_dump()})

                def log_epoch(record: EpochRecord, speed: float | None, child: tracking.Run = child) -> None:
                    values = {key: value for key, value in asdict(record).items() if key != "epoch"}
                    child.log_epoch(values | ({"spans_per_second": speed} if speed else {}), record.epoch)

                result = train_fold(
                    task, cell, fold, material, sections, seed=config.seed, cache=paths.FOLD_CACHE, on_epoch=log_epoch
                )
                own = score_folds([result], truth)[0]
                child.log_scores({"epoch": own.pop("best_epoch")} | {key: own[key] for key in own if key != "fold"})
                child.log_scores({"score": own[task.metric]}, prefix="")
                results.append(result)
        leave_processes()

        epochs = pd.DataFrame([asdict(record) for result in results for record in result.history.epochs])
        for epoch, mean in epochs.drop(columns="lr").groupby("epoch").mean().iterrows():
            run.log_epoch({str(name): float(value) for name, value in mean.items()}, int(str(epoch)))

        out_of_fold = collect_folds(results, "valid", task.labels)
        labels = truth[out_of_fold["row_id"]].to_numpy()
        scores = score(out_of_fold[list(task.labels)].to_numpy(), labels)
        with new_folder(paths.model(task.name, cell)) as scratch:
            for result in results:
                fold_folder = scratch / f"fold-{result.fold}"
                fold_folder.mkdir()
                for name in ("bundle.json", "weights.safetensors", "history.json"):
                    shutil.copyfile(result.folder / name, fold_folder / name)
            digest = sha256_of(*sorted(scratch.glob("fold-*/weights.safetensors")))
            out_of_fold.to_parquet(scratch / "out_of_fold.parquet", index=False)
            collect_folds(results, "test", task.labels).to_parquet(scratch / "test.parquet", index=False)
            write_json(
                scratch / "scores.json",
                {"cell": cell, "digest": digest, **scores, "folds": score_folds(results, truth)},
            )
        run.log_scores(scores)
        run.log_scores({"score": scores[task.metric]}, prefix="")
        judged = [("fold", "in", list(sections.split.run_folds))]
        columns = ["row_id", "group", "text", "label"]
        run.log_predictions(out_of_fold, pd.read_parquet(paths.rows(task.name), columns=columns, filters=judged))
        run.set_tags({"bundle_sha256": digest})
        bundles = [paths.model(task.name, cell) / f"fold-{result.fold}" for result in results]
        with parquet.ParquetFile(paths.rows(task.name)) as file:
            example = next(file.iter_batches(2, columns=["text"])).column("text").to_pylist()
        run.log_model({cell: bundles}, {cell: 1.0}, Path(unroll.__file__).parent, example, task.labels)
    print(f"{task.name} {cell}: out-of-fold accuracy {scores['accuracy']:.4f}, macro-F1 {scores['macro_f1']:.4f}")


if __name__ == "__main__":
    run_program(lambda: main(*sys.argv[1:]))
