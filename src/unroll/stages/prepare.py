"""Stage prepare: raw files as one checked table of rows with parts and folds."""

import sys

import pyarrow as pa
import pyarrow.parquet as parquet

from unroll.core import paths
from unroll.core.errors import UnrollError, run_program
from unroll.core.files import new_file
from unroll.core.params import read_config
from unroll.data.competition import load_competition
from unroll.data.rows import ROWS_SCHEMA, TRAIN, read_rows


def main(task_name: str) -> None:
    """Write data/rows/<task>.parquet."""
    config, task = read_config(paths.PARAMS), load_competition(paths.competition(task_name))
    split = config.task[task.name].split
    if not task.is_folder_of_labels and split.test_share:
        key = f"params.yaml: {task.name}.split.test_share"
        raise UnrollError(f"{key}: found {split.test_share}, expected 0.0, since the task has a test file")
    rows = read_rows(task, paths.raw(task.name), folds=split.folds, test_share=split.test_share, seed=config.seed)
    with new_file(paths.rows(task.name)) as scratch:
        table = pa.Table.from_pandas(rows, ROWS_SCHEMA, preserve_index=False).replace_schema_metadata()
        parquet.write_table(table, scratch, row_group_size=1 << 17)
    train = int((rows["part"] == TRAIN).sum())
    print(f"{task.name}: {train:,} training rows in {split.folds} folds, {len(rows) - train:,} test rows")


if __name__ == "__main__":
    run_program(lambda: main(*sys.argv[1:]))
