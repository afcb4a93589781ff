"""Stage evaluate: the scores of each cell and of the ensemble, learning curves and confusions."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

import unroll
from unroll import tracking
from unroll.core import paths
from unroll.core.errors import run_program
from unroll.core.files import new_file, read_json, sha256_of, write_json
from unroll.core.params import read_config
from unroll.core.settings import Config
from unroll.data.competition import Competition, load_competition
from unroll.data.known_labels import find_known_labels
from unroll.data.rows import TEST, TRAIN
from unroll.evaluation.comparison import join_predictions
from unroll.evaluation.leaderboard import estimate_leaderboard
from unroll.evaluation.metrics import group_accuracy, score
from unroll.evaluation.promotion import choose_best, decide
from unroll.tracking import registry


def main(task_name: str) -> None:
    """Write reports/metrics/<task>.json and the files of `dvc plots`, and remember the ensemble in MLflow."""
    config, task = read_config(paths.PARAMS), load_competition(paths.competition(task_name))
    labels = list(task.labels)
    rows = pd.read_parquet(paths.rows(task.name))
    truth, groups = rows.set_index("row_id")["label"], rows.set_index("row_id")["group"]
    ensemble = read_json(paths.ensemble(task.name) / "weights.json")
    folders = {cell: paths.model(task.name, cell) for cell in config.cells} | {"ensemble": paths.ensemble(task.name)}

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
    if "test" not in models["ensemble"] and (rows["part"] == TEST).any():
        table = pd.read_parquet(paths.ensemble(task.name) / "out_of_fold.parquet")
        right = table[labels].to_numpy().argmax(1) == truth[table["row_id"]].to_numpy()
        known_labels = config.task[task.name].ensemble.known_labels
        known = find_known_rows(rows) if known_labels else np.zeros((rows["part"] == TEST).sum(), dtype=bool)
        estimate = asdict(estimate_leaderboard(rows, pd.Series(right, index=table["row_id"]), known, seed=config.seed))
    best = max(config.cells, key=lambda cell: models[cell]["out_of_fold"][task.metric])
    write_json(
        paths.metrics(task.name),
        {
            "metric": task.metric,
            "best_cell": best,
            "best": models[best]["out_of_fold"][task.metric],
            "ensemble": models["ensemble"]["out_of_fold"][task.metric],
            "ensemble_weights": ensemble["weights"],
            "ensemble_is_nested": ensemble["nested"],
            "ensemble_sha256": sha256_of(paths.ensemble(task.name)),
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

    answers = pd.read_parquet(paths.ensemble(task.name) / "out_of_fold.parquet")
    names = pd.Series(task.label_names)
    actual = names[truth[answers["row_id"]].to_numpy()].to_numpy()
    predicted = names[answers[labels].to_numpy().argmax(1)].to_numpy()
    with new_file(paths.confusion(task.name)) as scratch:
        pd.DataFrame({"actual": actual, "predicted": predicted}).to_csv(scratch, index=False)
    scores = models["ensemble"]["out_of_fold"]
    tracking.open_store(Path.cwd())
    digests: dict[str, str] = {cell: read_json(folders[cell] / "scores.json")["digest"] for cell in config.cells}
    digests["ensemble"] = sha256_of(paths.ensemble(task.name))
    members: dict[str, str] = {cell: tracking.find_run(task.name, digests[cell]) or "" for cell in config.cells}
    tags = {**tracking.workspace_tags(), "task": task.name, "cell": "ensemble", "bundle_sha256": digests["ensemble"],
            **{f"member_{cell}": run_id for cell, run_id in members.items()}}  # fmt: skip
    print(
        f"{task.name}: best cell {best}; ensemble: accuracy {scores['accuracy']:.4f}, macro-F1 {scores['macro_f1']:.4f}"
    )
    with tracking.start_run(task.name, tracking.name_run(task.name, "ensemble"), tags) as run:
        run.log_params({"cell": "ensemble", "weight": ensemble["weights"], "nested": ensemble["nested"]})
        run.log_scores({name: value for name, value in scores.items() if name != "rows"})
        run.log_scores({"score": scores[task.metric]}, prefix="")
        run.log_predictions(answers, rows)
        # A cell whose run is in another store, as after `dvc pull`, has no run here that a version could name.
        standing = {name: models[name]["out_of_fold"][task.metric] for name in folders if members.get(name, run.id)}
        chosen = choose_best(standing)
        version = find_version(task.name, digests[chosen])
        if version is None:
            bundles: dict[str, list[Path]] = {cell: sorted(folders[cell].glob("fold-*")) for cell in config.cells}
            model = None if chosen == "ensemble" else registry.find_logged_model(task.name, members[chosen])
            if model is None:
                weights: dict[str, float] = ensemble["weights"] if chosen == "ensemble" else {chosen: 1.0}
                asked = {cell: bundles[cell] for cell in weights}
                package, example = Path(unroll.__file__).parent, rows["text"].iloc[:2].tolist()
                calibration = ensemble["calibration"] if chosen == "ensemble" else None
                model = run.log_model(asked, weights, package, example, labels, calibration)
            said = {"task": task.name, "cell": chosen, "bundle_sha256": digests[chosen], "metric": task.metric,
                    "score": f"{standing[chosen]:.6f}", "sample": "yes" if reads_sample(config) else "no"}  # fmt: skip
            version = registry.register(task.name, model, members.get(chosen, run.id), said) if model else None
    if version is None:
        print(f"{task.name}: the champion stays: the store did not take the new model")
        return
    table = pd.read_parquet(folders[chosen] / "out_of_fold.parquet")
    print(f"{task.name}: {promote_if_better(task, version, join_predictions(table, rows))}")


def find_version(task_name: str, digest: str) -> registry.Version | None:
    """Return the registered version that was made of these models, None where there is none."""
    versions = registry.list_versions(task_name)
    return next((version for version in versions if version.tags.get("bundle_sha256") == digest), None)


def reads_sample(config: Config) -> bool:
    """Say whether the pipeline's data are the project's own sample."""
    return config.data.source == "local" and Path(config.data.dir).resolve() == paths.SAMPLE.resolve()


def promote_if_better(task: Competition, version: registry.Version, answers: pd.DataFrame) -> str:
    """Make a version the champion where it is better than the present one, and say why or why not."""
    champion = registry.find_champion(task.name)
    named = f"version {version.number} ({version.tags['cell']})"
    if champion is None:
        registry.promote(task.name, version)
        return f"the champion is {named}: there was none before"
    if champion.number == version.number:
        return f"the champion stays {named}: it is this very model"
    decision = decide(
        answers,
        tracking.read_predictions(champion.run_id),
        task.labels,
        task.metric,
        by_id=not task.is_folder_of_labels,
        old_is_sample=champion.tags.get("sample") == "yes" and version.tags.get("sample") == "no",
    )
    if decision.promote:
        registry.promote(task.name, version)
        return f"the champion is now {named}, no longer version {champion.number}: {decision.why}"
    return f"the champion stays version {champion.number} ({champion.tags.get('cell')}), not {named}: {decision.why}"


def find_known_rows(rows: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return whether each row of the test part has its text, with one label, in the training part, (Q,)."""
    train, test = rows[rows["part"] == TRAIN], rows[rows["part"] == TEST]
    found = find_known_labels(train["text"].tolist(), train["label"].to_numpy(), test["text"].tolist())
    return found >= 0


if __name__ == "__main__":
    run_program(lambda: main(*sys.argv[1:]))
