"""The model that MLflow serves, in its form "models from code": texts in, what is predicted for each out."""

import json
from pathlib import Path
from typing import Any

import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel
from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer

from unroll.data.competition import Competition
from unroll.models.decisions import Decision, name_prediction
from unroll.models.ensemble import read_calibration
from unroll.models.predictor import load_predictor


class Prediction(BaseModel):
    """What is predicted for a text, as of `name_prediction`."""

    label: str | None = None
    probability: float | None = None
    probabilities: dict[str, float] | None = None
    labels: list[str] | None = None
    values: dict[str, float] | None = None

    @model_serializer(mode="wrap")
    def _leave_out_what_is_not_there(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


class TextModel(PythonModel):
    """Predicts with the bundles that it was logged with, as `unroll predict` does: folds averaged, cells weighted."""

    def load_context(self, context: Any) -> None:
        """Load the bundles."""
        config = json.loads(Path(context.artifacts["predictor"]).read_text(encoding="utf-8"))
        folders = {cell: [Path(context.artifacts[name]) for name in names] for cell, names in config["bundles"].items()}
        self.task = Competition.model_validate(config["task"])
        calibration = read_calibration(config["calibration"], len(self.task.outputs))
        self.decision = Decision.of_content(config["decision"], self.task)
        self.predictor = load_predictor(folders, config["weights"], self.task.outputs, calibration)
        torch.set_num_threads(1)  # small matrices gain nothing from more, and requests arrive in parallel

    def predict(self, model_input: list[str]) -> list[Prediction]:  # type: ignore[override]
        """Predict each text alone; MLflow refuses other values than strings because of the type hint."""
        if not model_input:
            return []
        predictions = self.predictor.predict(model_input)
        pairs = zip(predictions, self.decision.apply(predictions, self.task), strict=True)
        return [Prediction(**name_prediction(self.task, *pair)) for pair in pairs]


set_model(TextModel())
