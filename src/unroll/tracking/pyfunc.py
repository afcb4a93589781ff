"""The model that MLflow serves, in its form "models from code": texts in, labels and class probabilities out."""

import json
from pathlib import Path
from typing import Any

import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel
from pydantic import BaseModel

from unroll.models.ensemble import read_calibration
from unroll.models.predictor import load_predictor


class Prediction(BaseModel):
    """A text's label, the probability of that label, and those of all labels."""

    label: str
    probability: float
    probabilities: dict[str, float]


class TextClassifier(PythonModel):
    """Predicts with the bundles that it was logged with, as `unroll predict` does: folds averaged, cells weighted."""

    def load_context(self, context: Any) -> None:
        """Load the bundles."""
        config = json.loads(Path(context.artifacts["predictor"]).read_text(encoding="utf-8"))
        folders = {cell: [Path(context.artifacts[name]) for name in names] for cell, names in config["bundles"].items()}
        self.labels: list[str] = config["labels"]
        calibration = read_calibration(config["calibration"], len(self.labels))
        self.predictor = load_predictor(folders, config["weights"], self.labels, calibration)
        torch.set_num_threads(1)  # small matrices gain nothing from more, and requests arrive in parallel

    def predict(self, model_input: list[str]) -> list[Prediction]:  # type: ignore[override]
        """Predict each text alone; MLflow refuses other values than strings because of the type hint."""
        rows = self.predictor.predict(model_input).tolist() if model_input else []
        probabilities = [dict(zip(self.labels, row, strict=True)) for row in rows]
        labels = [max(each, key=each.__getitem__) for each in probabilities]
        return [
            Prediction(label=label, probability=each[label], probabilities=each)
            for label, each in zip(labels, probabilities, strict=True)
        ]


set_model(TextClassifier())
