"""Stage ensemble: weights fitted on out-of-fold probabilities, and the cells' probabilities mixed by them."""

import sys

import numpy as np
import pandas as pd

from unroll.core import paths
from unroll.core.errors import UnrollError, run_program
from unroll.core.files import new_folder
from unroll.core.params import read_config
from unroll.data.competition import load_competition
from unroll.evaluation.ensembling import ensemble_out_of_fold
from unroll.models.ensemble import save_ensemble
from unroll.text.vocabulary import get_tokenizer


def main(task_name: str) -> None:
    """Write data/ensemble/<task>/: weights.json, out_of_fold.parquet and test.parquet."""
    config, task = read_config(paths.PARAMS), load_competition(paths.competition(task_name))
    settings, labels = config.task[task.name], list(task.labels)
    rows = pd.read_parquet(paths.rows(task.name), columns=["row_id", "text", "label"]).set_index("row_id")
    tokenize = get_tokenizer(settings.text)
    keys, stacked, lengths = {}, {}, {}
    for part in ("out_of_fold", "test"):
        tables = [pd.read_parquet(paths.model(task.name, cell) / f"{part}.parquet") for cell in config.cells]
        keys[part] = tables[0].drop(columns=labels)
        if any(not table["row_id"].equals(keys[part]["row_id"]) for table in tables):
            raise UnrollError(f"models/{task.name}: the cells predict different rows in {part}; train them again")
        stacked[part] = np.stack([table[labels].to_numpy(float) for table in tables])  # (M, R, C)
        texts = rows["text"].loc[keys[part]["row_id"]]
        lengths[part] = np.array([len(tokenize(text)) for text in texts], dtype=np.int64)
    folds = keys["out_of_fold"]["fold"].to_numpy()
    truth = rows["label"].loc[keys["out_of_fold"]["row_id"]].to_numpy()
    ensemble, nested = ensemble_out_of_fold(
        stacked["out_of_fold"], truth, folds, lengths["out_of_fold"], calibrate=settings.ensemble.calibrate
    )
    ensembled = {"out_of_fold": nested, "test": ensemble.apply(stacked["test"], lengths["test"])}
    with new_folder(paths.ensemble(task.name)) as scratch:
        save_ensemble(scratch / "weights.json", config.cells, ensemble, nested=len(np.unique(folds)) > 1)
        for part, probabilities in ensembled.items():
            table = keys[part].join(pd.DataFrame(probabilities, columns=labels))
            table.to_parquet(scratch / f"{part}.parquet", index=False)
    weights = ", ".join(f"{weight:.2f} {cell}" for weight, cell in zip(ensemble.weights, config.cells, strict=True))
    print(f"{task.name}: ensemble {weights}" + (", calibrated by length" if ensemble.calibration else ""))


if __name__ == "__main__":
    run_program(lambda: main(*sys.argv[1:]))
