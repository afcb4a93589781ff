"""The results of one task, from which its chapter of the report is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from unroll.core.settings import TaskConfig
from unroll.data.competition import Competition
from unroll.kaggle.ledger import Entry
from unroll.tracking.queries import RunInfo

ENSEMBLE = "ensemble"
DIGEST = "outputs_sha256"  # tag of a run: the sha256 of its outputs


@dataclass(frozen=True)
class TaskResults:
    """Results of one task.

    Attributes:
        task: its definition.
        config: its settings.
        seed: of every bootstrap.
        training: its table of rows, the training part.
        details: its scores, as the evaluate stage writes them.
        predictions: out-of-fold predictions of each cell and of the ensemble, as of `add_outcomes`.
        models: what the train stage writes of each cell: its digest and the scores of its folds.
        bundles: of each cell, the folder of each fold's bundle.
        runs: finished runs in MLflow, the newest first.
        submissions: to Kaggle, the oldest first.
        facts: on the data and the submission file, a name and a value each.
    """

    task: Competition
    config: TaskConfig
    seed: int
    training: pd.DataFrame
    details: Mapping[str, Any]
    predictions: Mapping[str, pd.DataFrame]
    models: Mapping[str, Mapping[str, Any]]
    bundles: Mapping[str, Mapping[int, Path]]
    runs: Sequence[RunInfo]
    submissions: Sequence[Entry]
    facts: Sequence[tuple[str, str]]

    @property
    def ensembled(self) -> pd.DataFrame:
        """Return the ensemble's predictions."""
        return self.predictions[ENSEMBLE]

    @property
    def reads_letters(self) -> bool:
        """Return whether a token is a letter."""
        return self.config.text.tokenizer == "characters"

    def find_runs(self) -> dict[str, RunInfo]:
        """Return the newest run of each cell and of the ensemble; those that MLflow has none of are left out."""
        digests = {cell: model["digest"] for cell, model in self.models.items()}
        newest = {run.tags.get(DIGEST): run for run in reversed(self.runs)}
        digests[ENSEMBLE] = self.details["ensemble_sha256"]
        return {model: newest[digest] for model, digest in digests.items() if digest in newest}
