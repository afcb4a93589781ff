"""Stage prepare: raw files as one checked table of rows with parts and folds."""

import sys

import pyarrow.parquet as parquet
from pyarrow import compute

from unroll.core import paths
from unroll.core.errors import UnrollError, run_program
from unroll.core.files import new_file
from unroll.core.params import read_config
from unroll.data.competition import load_competition
from unroll.data.rows import ROWS_ARROW, TRAIN, stream_rows


def main(task_name: str) -> None:
    """Write data/rows/<task>.parquet."""
    config, task = read_config(paths.PARAMS), load_competition(paths.competition(task_name))
    split = config.task[task.name].split
    if not task.is_folder_of_labels and split.test_share:
        key = f"params.yaml: {task.name}.split.test_share"
        raise UnrollError(f"{key}: found {split.test_share}; the task has a test file of its own, so 0.0 is right")
    train = total = 0
    batches = stream_rows(task, paths.raw(task.name), folds=split.folds, test_share=split.test_share, seed=config.seed)
    with new_file(paths.rows(task.name)) as scratch, parquet.ParquetWriter(scratch, ROWS_ARROW) as file:
        for batch in batches:
            file.write_batch(batch)
            total += len(batch)
            train += compute.sum(compute.equal(batch.column("part"), TRAIN)).as_py()
    print(f"{task.name}: {train:,} training rows in {split.folds} folds, {total - train:,} test rows")


if __name__ == "__main__":
    run_program(lambda: main(*sys.argv[1:]))
