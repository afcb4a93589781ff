"""Stage train: one cell on each fold that is to run; bundles, probabilities and scores."""

import shutil
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow.parquet as parquet

import unroll
from unroll import tracking
from unroll.core import paths
from unroll.core.errors import run_program
from unroll.core.files import new_folder, sha256_of, write_json
from unroll.core.params import read_config
from unroll.core.settings import TaskConfig
from unroll.data.competition import Competition, load_competition
from unroll.evaluation.metrics import score
from unroll.training.cross_validation import FoldResult, collect_folds, load_training_data, score_folds
from unroll.training.distributed import join_processes, leave_processes, relaunch
from unroll.training.history import EpochRecord
from unroll.training.parallel import FoldListener, Training, train_folds


def main(task_name: str, cell: str) -> None:
    """Write models/<task>/<cell>/ and remember the training in MLflow.

    Under torchrun, or with UNROLL_LAUNCH="torchrun …", several processes train; the main one writes and remembers.
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

    tracking.open_store(Path.cwd())
    tags = {**tracking.workspace_tags(), "task": task.name, "cell": cell, "corpus_sha256": data.digest,
            "processes": str(processes.count)}  # fmt: skip
    with tracking.start_run(task.name, tracking.name_run(task.name, cell), tags) as run, ExitStack() as fold_runs:
        run.log_params({"seed": config.seed, "cell": cell, **sections.model_dump(exclude={"ensemble", "tune"})})
        run.log_dataset(rows, origin=str(paths.rows(task.name)), name=task.name, label="label", context="training")

        listener = _FoldRuns(run, task, cell, config.seed, sections, tags, truth, fold_runs)
        results = train_folds(training, data, listener)
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
        run_folds = [("fold", "in", list(sections.split.run_folds))]
        columns = ["row_id", "group", "text", "label"]
        run.log_predictions(out_of_fold, pd.read_parquet(paths.rows(task.name), columns=columns, filters=run_folds))
        run.set_tags({"bundle_sha256": digest})
        bundles = [paths.model(task.name, cell) / f"fold-{result.fold}" for result in results]
        with parquet.ParquetFile(paths.rows(task.name)) as file:
            example = next(file.iter_batches(2, columns=["text"])).column("text").to_pylist()
        run.log_model({cell: bundles}, {cell: 1.0}, Path(unroll.__file__).parent, example, task.labels)
    print(f"{task.name} {cell}: out-of-fold accuracy {scores['accuracy']:.4f}, macro-F1 {scores['macro_f1']:.4f}")


@dataclass
class _FoldRuns(FoldListener):
    """A run of MLflow for each fold, below that of the training; several are open at once where folds train so."""

    parent: tracking.Run
    task: Competition
    cell: str
    seed: int
    config: TaskConfig
    tags: Mapping[str, str]
    truth: pd.Series
    until_the_end: ExitStack  # of the training: ends what is open then
    opened: dict[int, tuple[tracking.Run, ExitStack]] = field(default_factory=dict)

    def begin(self, fold: int) -> None:
        stack = self.until_the_end.enter_context(ExitStack())
        name = tracking.name_run(self.task.name, self.cell, "fold", fold)
        tags = {**self.tags, "fold": str(fold)}
        run = stack.enter_context(tracking.start_run(self.task.name, name, tags, parent=self.parent))
        run.log_params({"seed": self.seed, "cell": self.cell, "fold": fold, **self.config.train.model_dump()})
        self.opened[fold] = run, stack

    def epoch(self, fold: int, record: EpochRecord, spans_per_second: float | None) -> None:
        values = {name: value for name, value in asdict(record).items() if name != "epoch"}
        speed = {"spans_per_second": spans_per_second} if spans_per_second else {}
        self.opened[fold][0].log_epoch(values | speed, record.epoch)

    def end(self, result: FoldResult) -> None:
        run, stack = self.opened[result.fold]
        scores = score_folds([result], self.truth)[0]
        run.log_scores({"epoch": scores.pop("best_epoch")} | {key: scores[key] for key in scores if key != "fold"})
        run.log_scores({"score": scores[self.task.metric]}, prefix="")
        stack.close()

    def stop(self, fold: int) -> None:
        self.opened[fold][0].is_stopped = True


if __name__ == "__main__":
    run_program(lambda: main(*sys.argv[1:]))
