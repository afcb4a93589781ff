"""Stage submission: the ensemble's predictions in the competition's form."""

import numpy as np
import pandas as pd

from unroll.core import paths
from unroll.core.errors import run_stage
from unroll.core.files import new_file, sha256_of, sha256_of_file, write_json
from unroll.core.params import read_config
from unroll.data.competition import CLASSES
from unroll.data.rows import TEST, load_task, predictions_of
from unroll.data.submission import find_known_truth, make_submission, read_sample
from unroll.models.ensemble import load_ensemble


def main(task_name: str) -> None:
    """Write reports/submissions/<task>.csv and, beside it, <task>.json with its origin."""
    config, task = read_config(paths.PARAMS), load_task(paths.competition(task_name), paths.rows(task_name))
    rows, folder = pd.read_parquet(paths.rows(task.name)), paths.ensemble(task.name)
    test = rows[rows["part"] == TEST]
    table = pd.read_parquet(folder / "test.parquet").set_index("row_id").loc[test["row_id"]]
    predictions, decision = predictions_of(table, task), load_ensemble(folder / "weights.json", task)[2]
    decided, (truth, known) = decision.apply(predictions, task), find_known_truth(task, rows)
    known &= config.task[task.name].ensemble.known_labels
    decided[known] = truth[known]
    certain = np.eye(len(task.outputs))[truth[known, 0].astype(int)] if task.kind in CLASSES else truth[known]
    predictions[known] = certain

    path = paths.submission(task.name)
    sample = read_sample(task, paths.raw(task.name), test["id"])
    with new_file(path) as scratch:
        made = make_submission(task, sample, test["id"], predictions, decided)
        made.to_csv(scratch, index=False, lineterminator="\n")
    record = {
        "rows": len(test), "known_labels": int(known.sum()), "sha256": sha256_of_file(path),
        "ensemble": sha256_of(folder),
    }  # fmt: skip
    write_json(paths.submission_record(task.name), record)
    share = f", {known.sum():,} of them with the label of the same text in the training part" if known.any() else ""
    print(f"{path}: {len(test):,} rows{share}")


if __name__ == "__main__":
    run_stage(main)
