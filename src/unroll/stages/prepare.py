"""Stage prepare: raw files as one checked table of rows with parts and folds."""

import sys

from unroll import paths
from unroll.config import read_config
from unroll.errors import UnrollError, run_program
from unroll.files import new_file
from unroll.rows import TRAIN, read_rows
from unroll.tasks import TableFiles, load_task


def main(task_name: str) -> None:
    """Write data/rows/<task>.parquet."""
    config, task = read_config(paths.PARAMS), load_task(task_name)
    split = config.task[task.name].split
    if isinstance(task.files, TableFiles) and split.test_share:
        key = f"params.yaml: {task.name}.split.test_share"
        raise UnrollError(f"{key}: found {split.test_share}; the task has a test file of its own, so 0.0 is right")
    rows = read_rows(task, paths.raw(task.name), folds=split.folds, test_share=split.test_share, seed=config.seed)
    with new_file(paths.rows(task.name)) as scratch:
        rows.to_parquet(scratch, index=False)
    train = int((rows["part"] == TRAIN).sum())
    print(f"{task.name}: {train:,} training rows in {split.folds} folds, {len(rows) - train:,} test rows")


if __name__ == "__main__":
    run_program(lambda: main(*sys.argv[1:]))
