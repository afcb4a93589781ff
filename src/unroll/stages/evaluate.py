"""Stage evaluate: scores of each cell and of the ensemble, plots, and what MLflow lacks of the task's runs."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from unroll.core import paths
from unroll.core.errors import UnrollError, run_stage, warn
from unroll.core.files import new_file, read_json, sha256_of, write_json
from unroll.core.params import read_config
from unroll.core.settings import Config
from unroll.data.competition import CLASSES, Competition
from unroll.data.rows import TEST, load_task, predictions_of, truth_of
from unroll.data.submission import find_known_truth
from unroll.evaluation.comparison import choose_best, decide_table, join_predictions, score_table
from unroll.evaluation.leaderboard import estimate_leaderboard
from unroll.models.ensemble import load_ensemble
from unroll.tracking.projection import ENSEMBLE, TaskOutputs, project_task
from unroll.tracking.runs import workspace_tags
from unroll.tracking.store import open_store


def main(task_name: str) -> None:
    """Write reports/metrics/<task>.json, reports/details/<task>.json and the files of `dvc plots`; log to MLflow."""
    config, task = read_config(paths.PARAMS), load_task(paths.competition(task_name), paths.rows(task_name))
    rows, weights = pd.read_parquet(paths.rows(task.name)), read_json(paths.ensemble(task.name) / "weights.json")
    decision = load_ensemble(paths.ensemble(task.name) / "weights.json", task)[2]
    models, out_of_fold = {}, {}
    for name in (*config.cells, ENSEMBLE):
        folder = paths.ensemble(task.name) if name == ENSEMBLE else paths.model(task.name, name)
        parts = ("out_of_fold", "test")
        table, test = (join_predictions(pd.read_parquet(folder / f"{part}.parquet"), rows) for part in parts)
        models[name] = {"out_of_fold": {"rows": len(table), **score_table(table, task)}}
        if len(test) and np.isfinite(truth_of(test, task)).all():
            decided = decision.apply(predictions_of(test, task), task)
            models[name]["test"] = {"rows": len(test), **score_table(test, task, decided)}
        out_of_fold[name] = table
    scores = {name: model["out_of_fold"][task.metric] for name, model in models.items()}
    best = choose_best({cell: scores[cell] for cell in config.cells}, task.metric)
    details = {
        "metric": task.metric, "best_cell": best, "best": scores[best], "ensemble": scores[ENSEMBLE],
        "ensemble_weights": weights["weights"], "ensemble_is_nested": weights["nested"],
        "ensemble_sha256": sha256_of(paths.ensemble(task.name)), "leaderboard_estimate": None, "models": models,
        "pretraining": _read_pretraining(config, task),
    }  # fmt: skip
    metrics: dict[str, Any] = {"metric": task.metric, **{name: round(value, 4) for name, value in scores.items()}}
    if task.metric == "accuracy" and "test" not in models[ENSEMBLE] and (rows["part"] == TEST).any():
        estimate = details["leaderboard_estimate"] = _estimate(config, task, rows, out_of_fold[ENSEMBLE])
        shown = {"leaderboard": "accuracy", "low": "low", "high": "high"}  # flat: `dvc metrics show` has 120 columns
        metrics |= {key: round(estimate[name], 4) for key, name in shown.items()}
    write_json(paths.metrics(task.name), metrics)
    write_json(paths.details(task.name), details)
    _write_plots(config, task, out_of_fold[ENSEMBLE])
    print(f"{task.name}: {task.metric} " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
    try:
        open_store(Path.cwd())
        outputs = find_outputs(config, task)
        for line in project_task(outputs) if outputs else ():
            print(line)
    except UnrollError as error:
        warn(f"{error}; the runs are not logged, `unroll track {task.name}` logs them later")


def find_outputs(config: Config, task: Competition) -> TaskOutputs | None:
    """Return where a task's outputs are, None if one is missing; figures only if they are not older than the scores."""
    models: dict[str, Path] = {cell: paths.model(task.name, cell) for cell in config.cells}
    rows, ensemble, details = paths.rows(task.name), paths.ensemble(task.name), paths.details(task.name)
    files = [rows, details, ensemble / "weights.json", *(model / "run.json" for model in models.values())]
    if not all(file.is_file() for file in files):
        return None
    figures = sorted(paths.FIGURES.glob(f"{task.name}-*.svg"))
    figures = [file for file in figures if file.stat().st_mtime >= details.stat().st_mtime]
    is_sample = config.data.source == "local" and Path(config.data.dir).resolve() == paths.SAMPLE.resolve()
    pretrained = {file.parent.name: file.parent for file in sorted(paths.pretrained(task.name).glob("*/run.json"))}
    return TaskOutputs(task, rows, models, ensemble, is_sample, workspace_tags(), figures, pretrained)


def _read_pretraining(config: Config, task: Competition) -> dict[str, Any]:
    """Return for each pretrained cell its corpus, and its scores on texts held out."""
    files = sorted(paths.pretrained(task.name).glob("*/run.json")) if task.name in config.pretrained else []
    names = ("perplexity", "unigram_perplexity", "label_accuracy")
    found = {}
    for file in files:
        scores = read_json(file.parent / "fold.json")
        chosen = {name: scores[name] for name in names if name in scores}
        found[file.parent.name] = {"corpus": read_json(file)["corpus"], **chosen}
    return found


def _estimate(config: Config, task: Competition, rows: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any]:
    known = find_known_truth(task, rows)[1] & config.task[task.name].ensemble.known_labels
    correct = pd.Series((decide_table(table, task) == truth_of(table, task)).all(1), index=table["row_id"])
    return asdict(estimate_leaderboard(rows, correct, known, seed=config.seed))


def _write_plots(config: Config, task: Competition, table: pd.DataFrame) -> None:
    curves = {}
    for cell in config.cells:
        files = sorted(paths.model(task.name, cell).glob("fold-*/history.json"))
        epochs = pd.DataFrame([epoch for file in files for epoch in read_json(file)["epochs"]])
        curves[cell] = epochs.groupby("epoch")[f"valid_{task.metric}"].mean()
    with new_file(paths.curves(task.name)) as scratch:
        pd.DataFrame(curves).rename_axis("epoch").to_csv(scratch)
    truth, decided = truth_of(table, task), decide_table(table, task)
    with new_file(paths.confusion(task.name)) as scratch:
        both = {"actual": _name_values(task, truth, truth), "predicted": _name_values(task, decided, truth)}
        pd.DataFrame(both).to_csv(scratch, index=False)


def _name_values(task: Competition, values: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> list[str]:
    """Return each of the values (R, K) in words: a class, whether a label is given, or the quarter of a number."""
    if task.kind in CLASSES:
        return [task.output_names[number] for number in values[:, 0].astype(int)]
    names = []
    for column, (name, each) in enumerate(zip(task.output_names, values.T, strict=True)):
        if task.kind == "multilabel":
            names += [name if value else f"not {name}" for value in each]
        else:
            quarters = np.searchsorted(np.quantile(truth[:, column], (0.25, 0.5, 0.75)), each)
            names += [f"{name}, quarter {quarter + 1}" for quarter in quarters]
    return names


if __name__ == "__main__":
    run_stage(main)
