"""The model that MLflow keeps, written as code: raw text in, a label and the class probabilities out."""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

from unroll.bundle import load_bundle, predict_mean


class TextClassifier(PythonModel):
    """Averages the bundles that it was logged with."""

    def load_context(self, context: Any) -> None:
        """Read the bundles."""
        self.bundles = [load_bundle(Path(folder)) for _, folder in sorted(context.artifacts.items())]

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
        probabilities = predict_mean(self.bundles, texts)  # (R, C)
        labels = self.bundles[0].labels
        best = probabilities.argmax(1)
        answer = pd.DataFrame(
            {"label": [labels[number] for number in best], "probability": probabilities.max(1).astype(float)}
        )
        return answer.assign(
            **{f"p_{label}": probabilities[:, column].astype(float) for column, label in enumerate(labels)}
        )


set_model(TextClassifier())
