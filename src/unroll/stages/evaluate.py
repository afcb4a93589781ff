"""Stage evaluate: scores of each cell and of the ensemble, plots, and what MLflow lacks of the task's runs."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from unroll.core import paths
from unroll.core.errors import UnrollError, run_program, warn
from unroll.core.files import new_file, read_json, sha256_of, write_json
from unroll.core.params import read_config
from unroll.core.settings import Config
from unroll.data.competition import Competition, load_competition
from unroll.data.known_labels import find_known_labels
from unroll.data.rows import TEST, TRAIN
from unroll.evaluation.comparison import join_predictions, score_predictions
from unroll.evaluation.leaderboard import estimate_leaderboard
from unroll.tracking.projection import ENSEMBLE, TaskOutputs, project_task
from unroll.tracking.runs import workspace_tags
from unroll.tracking.store import open_store


def main(task_name: str) -> None:
    """Write reports/metrics/<task>.json, reports/details/<task>.json and the files of `dvc plots`; log to MLflow."""
    config, task = read_config(paths.PARAMS), load_competition(paths.competition(task_name))
    rows = pd.read_parquet(paths.rows(task.name))
    out_of_fold = _read_predictions(config, task, "out_of_fold", rows)
    tables = {"out_of_fold": out_of_fold, "test": _read_predictions(config, task, "test", rows)}
    models: dict[str, dict[str, Any]] = {name: {} for name in out_of_fold}
    for part, predictions in tables.items():
        for name, table in predictions.items():
            if len(table) and (table["label"] >= 0).all():
                models[name][part] = {"rows": len(table), **score_predictions(table, task.labels)}
    scores = {name: model["out_of_fold"][task.metric] for name, model in models.items()}
    best = max(config.cells, key=lambda cell: scores[cell])
    metrics: dict[str, Any] = {"metric": task.metric, **{name: round(value, 4) for name, value in scores.items()}}
    estimate = None
    if "test" not in models[ENSEMBLE] and len(tables["test"][ENSEMBLE]):
        estimate = _estimate(config, task, rows, out_of_fold[ENSEMBLE])
        metrics["leaderboard"] = {
            "estimate": round(estimate["accuracy"], 4), "low": round(estimate["low"], 4),
            "high": round(estimate["high"], 4),
        }  # fmt: skip
    write_json(paths.metrics(task.name), metrics)
    ensemble = read_json(paths.ensemble(task.name) / "weights.json")
    details = {
        "metric": task.metric,
        "best_cell": best,
        "best": scores[best],
        "ensemble": scores[ENSEMBLE],
        "ensemble_weights": ensemble["weights"],
        "ensemble_is_nested": ensemble["nested"],
        "ensemble_sha256": sha256_of(paths.ensemble(task.name)),
        "leaderboard_estimate": estimate,
        "models": models,
    }
    write_json(paths.details(task.name), details)
    _write_plots(config, task, out_of_fold[ENSEMBLE])
    print(f"{task.name}: {task.metric} " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
    try:
        open_store(Path.cwd())
        outputs = task_outputs(config, task)
        for line in project_task(outputs) if outputs else []:
            print(line)
    except UnrollError as error:
        warn(f"{error}; the runs are not logged, `unroll track {task.name}` does it later")


def task_outputs(config: Config, task: Competition) -> TaskOutputs | None:
    """Return where a task's outputs are, None if one is missing; figures only if they are not older than the scores."""
    models: dict[str, Path] = {cell: paths.model(task.name, cell) for cell in config.cells}
    rows, ensemble, details = paths.rows(task.name), paths.ensemble(task.name), paths.details(task.name)
    files = [rows, details, ensemble / "weights.json", *(model / "run.json" for model in models.values())]
    if not all(file.is_file() for file in files):
        return None
    scored = details.stat().st_mtime
    figures = [file for file in sorted(paths.FIGURES.glob(f"{task.name}-*.svg")) if file.stat().st_mtime >= scored]
    is_sample = config.data.source == "local" and Path(config.data.dir).resolve() == paths.SAMPLE.resolve()
    return TaskOutputs(task, rows, models, ensemble, is_sample, workspace_tags(), figures)


def _read_predictions(config: Config, task: Competition, part: str, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    folders = {cell: paths.model(task.name, cell) for cell in config.cells} | {ENSEMBLE: paths.ensemble(task.name)}
    return {
        name: join_predictions(pd.read_parquet(folder / f"{part}.parquet"), rows) for name, folder in folders.items()
    }


def _estimate(config: Config, task: Competition, rows: pd.DataFrame, predictions: pd.DataFrame) -> dict[str, Any]:
    train, test = rows[rows["part"] == TRAIN], rows[rows["part"] == TEST]
    known = np.zeros(len(test), dtype=bool)
    if config.task[task.name].ensemble.known_labels:
        known = find_known_labels(train["text"].tolist(), train["label"].to_numpy(), test["text"].tolist()) >= 0
    correct = predictions[list(task.labels)].to_numpy().argmax(1) == predictions["label"]
    correct = pd.Series(correct.to_numpy(), index=predictions["row_id"])
    return asdict(estimate_leaderboard(rows, correct, known, seed=config.seed))


def _write_plots(config: Config, task: Competition, predictions: pd.DataFrame) -> None:
    curves = {}
    for cell in config.cells:
        histories = sorted(paths.model(task.name, cell).glob("fold-*/history.json"))
        epochs = pd.DataFrame([epoch for path in histories for epoch in read_json(path)["epochs"]])
        curves[cell] = epochs.groupby("epoch")["valid_accuracy"].mean()
    with new_file(paths.curves(task.name)) as scratch:
        pd.DataFrame(curves).rename_axis("epoch").to_csv(scratch)
    names = np.array(task.label_names, dtype=object)
    predicted = names[predictions[list(task.labels)].to_numpy().argmax(1)]
    with new_file(paths.confusion(task.name)) as scratch:
        table = {"actual": names[predictions["label"]], "predicted": predicted}
        pd.DataFrame(table).to_csv(scratch, index=False)


if __name__ == "__main__":
    run_program(lambda: main(*sys.argv[1:]))
