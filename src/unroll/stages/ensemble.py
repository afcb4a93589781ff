"""Stage ensemble: weights found on out-of-fold probabilities, and the cells' answers mixed by them."""

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
from unroll.text.tokenizer import get_tokenizer


def main(task_name: str) -> None:
    """Write data/ensemble/<task>/: weights.json, out_of_fold.parquet and test.parquet."""
    config, task = read_config(paths.PARAMS), load_competition(paths.competition(task_name))
    labels = list(task.labels)
    rows = pd.read_parquet(paths.rows(task.name), columns=["row_id", "text", "label"]).set_index("row_id")
    truth, texts = rows["label"], rows["text"].to_dict()
    tables = {
        part: [pd.read_parquet(paths.model(task.name, cell) / f"{part}.parquet") for cell in config.cells]
        for part in ("out_of_fold", "test")
    }
    for part, models in tables.items():
        if any(not table["row_id"].equals(models[0]["row_id"]) for table in models):
            raise UnrollError(f"models/{task.name}: the cells answer different rows in {part}; train them again")
    first = tables["out_of_fold"][0]
    stacked = {part: np.stack([table[labels].to_numpy(float) for table in models]) for part, models in tables.items()}
    sections = config.task[task.name]
    tokenize = get_tokenizer(sections.text)
    lengths = {
        part: np.array([len(tokenize(texts[row_id])) for row_id in models[0]["row_id"]], dtype=np.int64)
        for part, models in tables.items()
    }
    found, ensembled = ensemble_out_of_fold(
        stacked["out_of_fold"],
        truth[first["row_id"]].to_numpy(),
        first["fold"].to_numpy(),
        lengths["out_of_fold"],
        calibrate=sections.ensemble.calibrate,
    )
    by_cell = dict(zip(config.cells, found.weights.tolist(), strict=True))

    with new_folder(paths.ensemble(task.name)) as scratch:
        save_ensemble(scratch / "weights.json", config.cells, found, nested=first["fold"].nunique() > 1)
        for part, probabilities in (
            ("out_of_fold", ensembled),
            ("test", found.apply(stacked["test"], lengths["test"])),
        ):
            keys = tables[part][0].drop(columns=labels)
            keys.join(pd.DataFrame(probabilities, columns=labels)).to_parquet(scratch / f"{part}.parquet", index=False)
    print(f"{task.name}: ensemble " + ", ".join(f"{weight:.2f} {cell}" for cell, weight in by_cell.items()), end="")
    print(", calibrated by length" if found.calibration else "")


if __name__ == "__main__":
    run_program(lambda: main(*sys.argv[1:]))
