"""Finding runs, on a real SQLite store."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from unroll.core.errors import UnrollError
from unroll.tracking.runs import create_run, log_to_run, look_up, read_predictions

pytestmark = pytest.mark.usefixtures("root")


def make_run(name: str, status: str = "FINISHED", **tags: str) -> str:
    run_id = create_run("mood", name, tags)
    log_to_run(run_id, params={"lr": 1})
    MlflowClient().set_terminated(run_id, status)
    return run_id


def test_a_run_is_found_by_its_id_and_its_name() -> None:
    ids = [make_run(name, cell=name[5:]) for name in ("mood LSTM", "mood GRU", "mood LSTM")]
    make_run("mood LSTM", "FAILED")
    assert look_up(ids[0]).info.run_id == ids[0]
    found = look_up("mood LSTM")
    assert found.info.run_id == ids[2], "the newest one that has not failed"
    assert (found.info.run_name, found.data.params, found.data.tags["cell"]) == ("mood LSTM", {"lr": "1"}, "LSTM")
    for name in ("mood", "0000ffff", "%", "mood L%", "a'b", 'a"b', "a'b\"c", "' OR 1=1", ids[0][:10]):
        with pytest.raises(UnrollError, match="has no finished run with that id or name"):
            look_up(name)


def test_metrics_and_tags_are_added_to_a_finished_run(tmp_path: Path) -> None:
    run_id = make_run("one")
    log_to_run(run_id, metrics={"kaggle_public_score": 0.6}, tags={"kaggle_reference": "7"})
    found = look_up(run_id)
    assert found.data.metrics == {"kaggle_public_score": 0.6}
    assert found.data.tags["kaggle_reference"] == "7"
    assert read_predictions(run_id) is None
    with pytest.raises(UnrollError, match="not found"):
        log_to_run("0" * 32, metrics={"x": 1.0})
