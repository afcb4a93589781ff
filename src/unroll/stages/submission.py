"""Stage submission: the ensemble's predictions in the competition's format."""

import sys

import numpy as np
import pandas as pd

from unroll.core import paths
from unroll.core.errors import run_program
from unroll.core.files import new_file, sha256_of, sha256_of_file, write_json
from unroll.core.params import read_config
from unroll.data.competition import load_competition
from unroll.data.rows import TEST, TRAIN, read_sample_submission
from unroll.data.submission import find_known_labels, make_submission


def main(task_name: str) -> None:
    """Write reports/submissions/<task>.csv and, beside it, <task>.json with its origin."""
    config, task = read_config(paths.PARAMS), load_competition(paths.competition(task_name))
    rows = pd.read_parquet(paths.rows(task.name))
    train, test = rows[rows["part"] == TRAIN], rows[rows["part"] == TEST]
    predictions = pd.read_parquet(paths.ensemble(task.name) / "test.parquet").set_index("row_id").loc[test["row_id"]]
    classes = predictions.to_numpy().argmax(1) if len(test) else np.empty(0, dtype=np.int64)

    known = np.full(len(test), -1)
    if config.task[task.name].ensemble.known_labels:
        known = find_known_labels(train["text"].tolist(), train["label"].to_numpy(), test["text"].tolist())
        classes = np.where(known >= 0, known, classes)

    wanted = test["row_id"] if task.is_folder_of_labels else read_sample_submission(task, paths.raw(task.name))
    path = paths.submission(task.name)
    with new_file(path) as scratch:
        make_submission(task, test["row_id"], classes, wanted).to_csv(scratch, index=False, lineterminator="\n")
    known_rows = int((known >= 0).sum())
    record = {
        "rows": len(test),
        "known_labels": known_rows,
        "sha256": sha256_of_file(path),
        "ensemble": sha256_of(paths.ensemble(task.name)),
    }
    write_json(paths.submission_record(task.name), record)
    share = f", {known_rows:,} of them with the label of the same text in the training part" if known_rows else ""
    print(f"{path}: {len(test):,} rows{share}")


if __name__ == "__main__":
    run_program(lambda: main(*sys.argv[1:]))
