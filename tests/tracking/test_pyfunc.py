"""The model in the registry, loaded as MLflow loads it, and behind its scoring server."""

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from fastapi.testclient import TestClient
from mlflow.pyfunc import PyFuncModel, scoring_server

from tests.support.outputs import TEXTS
from unroll.models.bundle import load_bundle, predict_mean
from unroll.tracking.projection import TaskOutputs

TWO = ["never dull", "zzz"]


@pytest.fixture
def model(projected: TaskOutputs, tmp_path: Path) -> PyFuncModel:
    run = mlflow.search_runs(
        experiment_names=["sentiment"], filter_string="attributes.run_name = 'sentiment ensemble'", output_format="list"
    )[0]
    assert run.outputs is not None
    folder = mlflow.artifacts.download_artifacts(
        f"models:/{run.outputs.model_outputs[0].model_id}", dst_path=str(tmp_path)
    )
    loaded: PyFuncModel = mlflow.pyfunc.load_model(folder)
    return loaded


@pytest.fixture
def server(model: PyFuncModel) -> TestClient:
    return TestClient(scoring_server.init(model), raise_server_exceptions=False)


def test_it_predicts_as_the_ensemble_is_defined(model: PyFuncModel, projected: TaskOutputs) -> None:
    texts = [*TEXTS, "", "two\nlines", "Ж"]
    means = {
        cell: predict_mean([load_bundle(bundle) for bundle in sorted(folder.glob("fold-*"))], texts)
        for cell, folder in projected.models.items()
    }
    expected = 0.25 * means["RNN"] + 0.75 * means["GRU"]
    found: Any = model.predict(texts)
    assert [list(each.probabilities) for each in found] == [list("01234")] * len(texts)
    assert np.array([list(each.probabilities.values()) for each in found]) == pytest.approx(expected, abs=1e-6)
    assert [each.label for each in found] == [str(number) for number in expected.argmax(1)]
    assert [each.probability for each in found] == pytest.approx(expected.max(1), abs=1e-6)


def test_each_request_gets_a_prediction_for_each_text(server: TestClient, model: PyFuncModel) -> None:
    found: Any = model.predict(TWO)
    expected = [each.model_dump() for each in found]
    response = server.post("/invocations", json={"inputs": TWO})
    assert response.status_code == 200, response.text
    assert response.json() == {"predictions": expected}
    assert server.post("/invocations", json={"inputs": []}).json() == {"predictions": []}
    assert server.get("/health").status_code == 200


BODIES: list[Any] = [
    None, 7, "never dull", [], {}, {"text": "a"}, {"inputs": "a"}, {"inputs": None}, {"inputs": [None]},
    {"inputs": ["a", 5]}, {"inputs": [["a"]]}, {"inputs": {"text": ["a"]}}, {"instances": ["a"]},
    {"dataframe_records": [{"text": "a"}]}, {"dataframe_records": None}, {"dataframe_split": []},
    {"dataframe_split": {"columns": ["text"], "data": [["a"]]}},
]  # fmt: skip


@pytest.mark.parametrize("content", [*map(json.dumps, BODIES), "", "{", b"\xff"])
def test_a_request_that_holds_no_texts_is_refused(server: TestClient, content: str | bytes) -> None:
    response = server.post("/invocations", content=content, headers={"Content-Type": "application/json"})
    assert 400 <= response.status_code < 500, response.text
    assert "Traceback" not in response.text
    assert "message" in response.json() or "detail" in response.json()
