"""The outputs of a task with two cells of two folds, as the pipeline writes them, made without training."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import yaml

from tests.support.definitions import load_task
from tests.support.project import ROOT
from unroll.core.files import sha256_of, write_json
from unroll.core.params import read_config
from unroll.core.settings import ModelConfig
from unroll.data.competition import Competition
from unroll.data.rows import predictions_of, predictions_table, truth_of, write_rows
from unroll.evaluation.metrics import score
from unroll.models.bundle import Bundle, save_bundle
from unroll.models.decisions import Decision
from unroll.models.ensemble import Ensemble, save_ensemble
from unroll.models.span_classifier import SpanClassifier
from unroll.text.vocabulary import UNKNOWN, Vocabulary
from unroll.tracking.projection import TaskOutputs
from unroll.training.state import EpochRecord

CELLS, FOLDS, EPOCHS, ROWS = ("RNN", "GRU"), (0, 2), (1, 2, 3), 24
TEXTS = ("never dull", "a thin plot", "None", "not good")
CORPUS_SHA256 = "c" * 64
SHAPE = ModelConfig(
    embedding=5, hidden=4, layers=1, bidirectional=True, pooling=("last", "mean"), head="linear", head_hidden=None,
    embedding_dropout=0.0, layer_dropout=0.0, head_dropout=0.0,
)  # fmt: skip


def outputs_in(folder: Path, *, is_sample: bool = True) -> TaskOutputs:
    """Return where the outputs of the task sentiment are below a project's folder."""
    models = {cell: folder / "models/sentiment" / cell for cell in CELLS}
    rows, ensemble = folder / "data/rows/sentiment.parquet", folder / "data/ensemble/sentiment"
    figures = tuple(sorted((folder / "reports/figures").glob("*.svg")))
    tags = {"git_commit": "abc", "git_dirty": "no"}
    return TaskOutputs(load_task("sentiment"), rows, models, ensemble, is_sample, tags, figures)


def write_outputs(folder: Path, *, seed: int = 0, correct: int = 12) -> TaskOutputs:
    """Write them below a folder, with params.yaml and competitions/ beside them.

    Args:
        folder: of the project.
        seed: other weights for another one.
        correct: how many of the ROWS out-of-fold rows GRU and the ensemble predict correctly; RNN one more.
    """
    shutil.copytree(ROOT / "competitions", folder / "competitions", dirs_exist_ok=True)
    settings = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    (folder / "params.yaml").write_text(yaml.safe_dump(settings | {"cells": list(CELLS)}), encoding="utf-8")
    outputs, sections = outputs_in(folder), read_config(ROOT / "params.yaml").task["sentiment"]
    task, numbers = outputs.task, np.arange(ROWS)
    rows = pd.DataFrame({
        "row_id": numbers, "id": [str(100 + number) for number in numbers],
        "group": [str(number // 3) for number in numbers],
        "text": [f"{TEXTS[number % len(TEXTS)]} {number}" for number in numbers],
        "part": "train", "fold": [FOLDS[number % 2] for number in numbers],
        "true:Sentiment": (numbers % len(task.outputs)).astype(float),
    })  # fmt: skip
    write_rows(rows, task, outputs.rows)
    torch.manual_seed(seed)
    for cell, path in outputs.models.items():
        for fold in FOLDS:
            write_bundle(path / f"fold-{fold}", cell, outputs)
            epochs = [make_record(fold, epoch).flat() for epoch in EPOCHS]
            write_json(path / f"fold-{fold}/history.json", {"epochs": epochs, "best_epoch": 2})
        table = make_predictions(rows, task, correct + (cell == "RNN"))
        params = {"seed": seed, **sections.model_dump(exclude={"ensemble", "tune"})}
        write_cell(path, cell, table, rows, task, params)
    write_json(folder / "reports/details/sentiment.json", {})
    outputs.ensemble.mkdir(parents=True, exist_ok=True)
    ensemble = Ensemble(np.array([0.25, 0.75]))
    save_ensemble(outputs.ensemble / "weights.json", CELLS, ensemble, Decision.default(task), nested=True)
    make_predictions(rows, task, correct).to_parquet(outputs.ensemble / "out_of_fold.parquet", index=False)
    return outputs


def make_record(fold: int, epoch: int) -> EpochRecord:
    """Return what an epoch of a fold gave."""
    scores = {"accuracy": 0.1 * epoch, "macro_f1": 0.05 * epoch, "log_loss": 2 / epoch}
    return EpochRecord(epoch, 1 / epoch + fold, 0.003, scores)


def write_bundle(folder: Path, cell: str, outputs: TaskOutputs) -> None:
    """Write a bundle with random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    task, text = outputs.task, read_config(ROOT / "params.yaml").task["sentiment"].text
    vocabulary = Vocabulary((UNKNOWN, *["never", "dull", "a", "thin", "plot", "not", "good"]))
    model = SpanClassifier(cell, SHAPE, len(vocabulary), len(task.outputs)).eval()
    save_bundle(folder, Bundle(task.name, cell, task.kind, task.outputs, text, SHAPE, vocabulary, model))


def make_predictions(rows: pd.DataFrame, task: Competition, correct: int) -> pd.DataFrame:
    """Return a table of out-of-fold probabilities of which the first so many are correct."""
    truth, size = truth_of(rows, task)[:, 0].astype(int), len(task.outputs)
    predicted = np.where(np.arange(len(rows)) < correct, truth, (truth + 1) % size)
    probabilities: npt.NDArray[np.float64] = 0.1 + 0.5 * np.eye(size)[predicted]
    return rows[["row_id", "fold"]].join(predictions_table(probabilities, task))


def write_cell(
    folder: Path, cell: str, table: pd.DataFrame, rows: pd.DataFrame, task: Competition, params: dict[str, Any]
) -> None:
    """Write a cell's predictions and run.json."""
    by_id = rows.set_index("row_id")

    def score_of(part: pd.DataFrame) -> dict[str, float]:
        return score(task, predictions_of(part, task), truth_of(by_id.loc[part["row_id"]], task))

    def summary_of(fold: int) -> dict[str, Any]:
        digest = sha256_of(folder / f"fold-{fold}/weights.safetensors")
        return {"fold": fold, "digest": digest, "best_epoch": 2, **score_of(table[table["fold"] == fold])}

    table.to_parquet(folder / "out_of_fold.parquet", index=False)
    record = {
        "task": "sentiment",
        "cell": cell,
        "digest": sha256_of(*sorted(folder.glob("fold-*/weights.safetensors"))),
        "corpus_sha256": CORPUS_SHA256,
        "params": params,
        "scores": score_of(table),
        "folds": [summary_of(fold) for fold in FOLDS],
    }
    write_json(folder / "run.json", record)
