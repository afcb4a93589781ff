"""Stage evaluate: the scores of each cell and of the blend, learning curves and confusions."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unroll import paths, tracking
from unroll.blend import find_known_labels
from unroll.config import read_config
from unroll.errors import run_program
from unroll.estimate import estimate_leaderboard
from unroll.files import new_file, read_json, sha256_of, write_json
from unroll.metrics import group_accuracy, score
from unroll.rows import TEST, TRAIN
from unroll.tasks import load_task


def main(task_name: str) -> None:
    """Write reports/metrics/<task>.json and the files of `dvc plots`, and remember the blend in MLflow."""
    config, task = read_config(paths.PARAMS), load_task(task_name)
    labels = list(task.labels)
    rows = pd.read_parquet(paths.rows(task.name))
    truth, groups = rows.set_index("row_id")["label"], rows.set_index("row_id")["group"]
    blend = read_json(paths.blend(task.name) / "weights.json")
    folders = {cell: paths.model(task.name, cell) for cell in config.cells} | {"blend": paths.blend(task.name)}

    models: dict[str, dict[str, Any]] = {}
    for name, folder in folders.items():
        models[name] = {}
        for part in ("out_of_fold", "test"):
            table = pd.read_parquet(folder / f"{part}.parquet")
            known = truth[table["row_id"]].to_numpy()
            if len(table) and (known >= 0).all():
                probabilities, inside = table[labels].to_numpy(), groups[table["row_id"]].to_numpy(object)
                models[name][part] = {
                    "rows": len(table),
                    **score(probabilities, known),
                    "group_accuracy": group_accuracy(probabilities, known, inside.astype(str)),
                }
    estimate = None
    if "test" not in models["blend"] and (rows["part"] == TEST).any():
        table = pd.read_parquet(paths.blend(task.name) / "out_of_fold.parquet")
        right = table[labels].to_numpy().argmax(1) == truth[table["row_id"]].to_numpy()
        known_labels = config.task[task.name].blend.known_labels
        known = find_known_rows(rows) if known_labels else np.zeros((rows["part"] == TEST).sum(), dtype=bool)
        estimate = asdict(estimate_leaderboard(rows, pd.Series(right, index=table["row_id"]), known, seed=config.seed))
    best = max(config.cells, key=lambda cell: models[cell]["out_of_fold"][task.metric])
    write_json(
        paths.metrics(task.name),
        {
            "metric": task.metric,
            "best_cell": best,
            "best": models[best]["out_of_fold"][task.metric],
            "blend": models["blend"]["out_of_fold"][task.metric],
            "blend_weights": blend["weights"],
            "blend_is_nested": blend["nested"],
            "blend_sha256": sha256_of(paths.blend(task.name)),
            "leaderboard_estimate": estimate,
            "models": models,
        },
    )

    curves = {}
    for cell in config.cells:
        histories = [read_json(path)["epochs"] for path in sorted(folders[cell].glob("fold-*/history.json"))]
        epochs = pd.DataFrame([epoch for history in histories for epoch in history])
        curves[cell] = epochs.groupby("epoch")["valid_accuracy"].mean()
    with new_file(paths.curves(task.name)) as scratch:
        pd.DataFrame(curves).rename_axis("epoch").to_csv(scratch)

    answers = pd.read_parquet(paths.blend(task.name) / "out_of_fold.parquet")
    names = pd.Series(task.label_names)
    actual = names[truth[answers["row_id"]].to_numpy()].to_numpy()
    predicted = names[answers[labels].to_numpy().argmax(1)].to_numpy()
    with new_file(paths.confusion(task.name)) as scratch:
        pd.DataFrame({"actual": actual, "predicted": predicted}).to_csv(scratch, index=False)
    scores = models["blend"]["out_of_fold"]
    tracking.open_store(Path.cwd())
    digests = {cell: read_json(folders[cell] / "scores.json")["digest"] for cell in config.cells}
    members = {cell: tracking.find_run(task.name, digest) or "" for cell, digest in digests.items()}
    tags = {**tracking.workspace_tags(), "task": task.name, "cell": "blend",
            "bundle_sha256": sha256_of(paths.blend(task.name)),
            **{f"member_{cell}": run_id for cell, run_id in members.items()}}  # fmt: skip
    with tracking.start_run(task.name, f"{task.name} blend", tags) as run:
        run.log_params({"cell": "blend", "weight": blend["weights"], "nested": blend["nested"]})
        run.log_scores({name: value for name, value in scores.items() if name != "rows"})
    print(f"{task.name}: best cell {best}; blend: accuracy {scores['accuracy']:.4f}, macro-F1 {scores['macro_f1']:.4f}")


def find_known_rows(rows: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return whether each row of the test part has its text, with one label, in the training part, (Q,)."""
    train, test = rows[rows["part"] == TRAIN], rows[rows["part"] == TEST]
    found = find_known_labels(train["text"].tolist(), train["label"].to_numpy(), test["text"].tolist())
    return found >= 0


if __name__ == "__main__":
    run_program(lambda: main(*sys.argv[1:]))
