"""The model that MLflow keeps, written as code: raw text in, a label and the class probabilities out."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

from unroll.models.ensemble import read_calibration
from unroll.models.predictor import load_predictor


class TextClassifier(PythonModel):
    """Asks the bundles that it was logged with as `unroll predict` does: folds averaged, cells mixed by weight."""

    def load_context(self, context: Any) -> None:
        """Read the bundles."""
        config = json.loads(Path(context.artifacts["predictor"]).read_text(encoding="utf-8"))
        folders = {cell: [Path(context.artifacts[name]) for name in names] for cell, names in config["bundles"].items()}
        self.labels = config["labels"]
        calibration = read_calibration(config["calibration"], len(self.labels))
        self.predictor = load_predictor(folders, config["weights"], self.labels, calibration)
        torch.set_num_threads(1)  # matrices this small gain nothing from more, and requests come at once

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answer each row of the column `text` with its label, that label's probability, and every class' own.

        Raises:
            MlflowException: a row's text is missing or empty; the server answers 400.
        """
        texts = model_input["text"].tolist()
        for number, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                message = f"row {number}: text must be a string that is not empty, found {text!r}"
                raise MlflowException(message, error_code=INVALID_PARAMETER_VALUE)
        probabilities = self.predictor.predict(texts)  # (R, C)
        best = probabilities.argmax(1)
        answer = pd.DataFrame({"label": [self.labels[number] for number in best], "probability": probabilities.max(1)})
        return answer.assign(**{f"p_{label}": probabilities[:, column] for column, label in enumerate(self.labels)})


set_model(TextClassifier())
