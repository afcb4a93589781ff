"""Stage submission: the ensemble's answers in the competition's exact format."""

import sys

import numpy as np
import pandas as pd

from unroll.core import paths
from unroll.core.errors import run_program
from unroll.core.files import new_file, read_json, sha256_of, sha256_of_file, write_json
from unroll.core.params import read_config
from unroll.data.competition import load_competition
from unroll.data.known_labels import find_known_labels
from unroll.data.rows import TEST, TRAIN, read_sample_submission
from unroll.data.submission import make_submission


def main(task_name: str) -> None:
    """Write reports/submissions/<task>.csv and, beside it, what is known of it."""
    config, task = read_config(paths.PARAMS), load_competition(paths.competition(task_name))
    rows = pd.read_parquet(paths.rows(task.name))
    train, test = rows[rows["part"] == TRAIN], rows[rows["part"] == TEST]
    answers = pd.read_parquet(paths.ensemble(task.name) / "test.parquet").set_index("row_id")
    answers = answers.loc[test["row_id"]]
    classes = answers.to_numpy().argmax(1) if len(answers) else np.empty(0, dtype=np.int64)

    known_rows = 0
    if config.task[task.name].ensemble.known_labels:
        known = find_known_labels(train["text"].tolist(), train["label"].to_numpy(), test["text"].tolist())
        known_rows = int((known >= 0).sum())
        classes = np.where(known >= 0, known, classes)

    is_table = not task.is_folder_of_labels
    wanted = read_sample_submission(task, paths.raw(task.name)) if is_table else test["row_id"]
    path = paths.submission(task.name)
    submission = make_submission(task, test["row_id"], classes, wanted)
    with new_file(path) as scratch:
        submission.to_csv(scratch, index=False, lineterminator="\n")
    cells = {cell: read_json(paths.model(task.name, cell) / "scores.json")["digest"] for cell in config.cells}
    record = {
        "rows": len(submission),
        "known_labels": known_rows,
        "sha256": sha256_of_file(path),
        "ensemble": sha256_of(paths.ensemble(task.name)),
        "models": cells,
    }
    write_json(paths.submission_record(task.name), record)
    share = f", {known_rows:,} of them with the label of the same text in the training part" if known_rows else ""
    print(f"{path}: {len(submission):,} rows{share}")


if __name__ == "__main__":
    run_program(lambda: main(*sys.argv[1:]))
