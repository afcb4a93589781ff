"""Stage prepare: raw files as one checked table of rows with parts and folds."""

from unroll.core import paths
from unroll.core.errors import run_stage
from unroll.core.params import read_config
from unroll.data.competition import load_competition
from unroll.data.rows import TEST, TRAIN, naming_source, read_rows, write_rows
from unroll.data.submission import read_sample


def main(task_name: str) -> None:
    """Write data/rows/<task>.parquet."""
    config, task = read_config(paths.PARAMS), load_competition(paths.competition(task_name))
    split = config.task[task.name].split
    raw = paths.raw(task.name)
    with naming_source(raw):
        task, rows = read_rows(task, raw, folds=split.folds, test_share=split.test_share, seed=config.seed)
        read_sample(task, raw, rows.loc[rows["part"] == TEST, "id"])  # which has to fit before anything is trained
    write_rows(rows, task, paths.rows(task.name))
    train = int((rows["part"] == TRAIN).sum())
    print(f"{task.name}: {train:,} training rows in {split.folds} folds, {len(rows) - train:,} test rows")


if __name__ == "__main__":
    run_stage(main)
