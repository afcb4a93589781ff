"""The results of one task, from which its chapter of the report is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from unroll.core.settings import TaskConfig
from unroll.data.competition import Competition
from unroll.kaggle.ledger import Entry

ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class TaskResults:
    """Results of one task; predictions are tables as of `add_outcomes`."""

    task: Competition
    config: TaskConfig
    seed: int  # of every bootstrap
    training: pd.DataFrame  # the training part of the table of rows
    details: Mapping[str, Any]  # scores, as the evaluate stage writes them
    predictions: Mapping[str, pd.DataFrame]  # out of fold, of each cell and of the ensemble
    models: Mapping[str, Mapping[str, Any]]  # digest and folds of each cell, as the train stage writes them
    bundles: Mapping[str, Mapping[int, Path]]  # folder of each cell's bundle of each fold
    submissions: Sequence[Entry]  # to Kaggle, the oldest first
    facts: Sequence[tuple[str, str]]  # on the data and the submission file, a name and a value each

    @property
    def ensembled(self) -> pd.DataFrame:
        """Return the ensemble's predictions."""
        return self.predictions[ENSEMBLE]

    @property
    def reads_letters(self) -> bool:
        """Return whether a token is a letter."""
        return self.config.text.tokenizer == "characters"

    @property
    def digests(self) -> dict[str, str]:
        """Return the sha256 that names the outputs of each cell and of the ensemble."""
        digests = {cell: str(model["digest"]) for cell, model in self.models.items()}
        return {**digests, ENSEMBLE: str(self.details["ensemble_sha256"])}
