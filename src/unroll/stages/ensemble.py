"""Stage ensemble: weights fitted on out-of-fold predictions, and the cells' predictions mixed by them."""

import numpy as np
import pandas as pd

from unroll.core import paths
from unroll.core.errors import UnrollError, run_stage
from unroll.core.files import new_output
from unroll.core.params import read_config
from unroll.data.rows import load_task, predictions_of, predictions_table, truth_of
from unroll.evaluation.decisions import fit_decision
from unroll.evaluation.ensembling import ensemble_out_of_fold
from unroll.models.ensemble import save_ensemble
from unroll.text.vocabulary import get_tokenizer


def main(task_name: str) -> None:
    """Write data/ensemble/<task>/: weights.json, out_of_fold.parquet and test.parquet."""
    config, task = read_config(paths.PARAMS), load_task(paths.competition(task_name), paths.rows(task_name))
    settings = config.task[task.name]
    rows = pd.read_parquet(paths.rows(task.name)).set_index("row_id")
    tokenize = get_tokenizer(settings.text)
    keys, stacked, lengths = {}, {}, {}
    for part in ("out_of_fold", "test"):
        tables = [pd.read_parquet(paths.model(task.name, cell) / f"{part}.parquet") for cell in config.cells]
        keys[part] = tables[0][["row_id", *(["fold"] if part == "out_of_fold" else [])]]
        if any(not table["row_id"].equals(keys[part]["row_id"]) for table in tables):
            raise UnrollError(
                f"models/{task.name}: different rows of the cells in {part}; run `dvc repro --force train`"
            )
        stacked[part] = np.stack([predictions_of(table, task) for table in tables])  # (M, R, P)
        texts = rows["text"].loc[keys[part]["row_id"]]
        lengths[part] = np.array([len(tokenize(text)) for text in texts], dtype=np.int64)
    folds, truth = keys["out_of_fold"]["fold"].to_numpy(), truth_of(rows.loc[keys["out_of_fold"]["row_id"]], task)
    ensemble, nested = ensemble_out_of_fold(
        task, stacked["out_of_fold"], truth, folds, lengths["out_of_fold"], calibrate=settings.ensemble.calibrate
    )
    decision = fit_decision(task, nested, truth)
    ensembled = {"out_of_fold": nested, "test": ensemble.apply(stacked["test"], lengths["test"])}
    with new_output(paths.ensemble(task.name)) as scratch:
        is_nested = len(np.unique(folds)) > 1
        save_ensemble(scratch / "weights.json", config.cells, ensemble, decision, nested=is_nested)
        for part, predictions in ensembled.items():
            keys[part].join(predictions_table(predictions, task)).to_parquet(scratch / f"{part}.parquet", index=False)
    weights = ", ".join(f"{weight:.2f} {cell}" for weight, cell in zip(ensemble.weights, config.cells, strict=True))
    decided = f", {decision.rule} {', '.join(f'{value:.3f}' for value in decision.values)}" if decision.values else ""
    print(f"{task.name}: ensemble {weights}{', calibrated by length' if ensemble.calibration else ''}{decided}")


if __name__ == "__main__":
    run_stage(main)
