"""How MLflow's own pages show a task's runs: which columns come first, in which order, and the charts beside them.

MLflow keeps a view that someone shares as a tag of the experiment, and a link names it. One such view is written here,
in the words of the pages' own source (their state of the runs page; MLflow 3).
"""

import json
from collections.abc import Mapping
from itertools import cycle
from typing import Any
from urllib.parse import urlencode

import mlflow

WHOLE = "tags.fold IS NULL"  # the search that leaves out the runs of single folds
COMPARED, FOLDS = "unroll", "unroll-folds"  # the views' names
COLUMNS = (
    "params.`cell`", "params.`fold`", "metrics.`score`", "metrics.`best_accuracy`", "metrics.`best_macro_f1`",
    "metrics.`best_log_loss`", "metrics.`best_epoch`", "tags.`task`",
)  # fmt: skip
BARS = {
    "score": "Score out of fold", "best_macro_f1": "Macro-F1 out of fold", "best_log_loss": "Log loss out of fold",
}  # fmt: skip
CURVES = {
    "valid_accuracy": "Accuracy on the rows held out", "valid_log_loss": "Log loss on the rows held out",
    "loss": "Training loss",
}  # fmt: skip

# Okabe and Ito's, which colour-blind readers can tell apart; MLflow's own choice gives two runs the same one by chance.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
COLOUR_TAG = "mlflow.runColor"


def arrange_runs(experiments: Mapping[str, str]) -> None:
    """Write the views of each experiment, given their ids by name, and give each whole run a colour that it keeps."""
    client = mlflow.MlflowClient()
    views = {COMPARED: _state(WHOLE), FOLDS: _state("")}
    for number in experiments.values():
        for key, state in views.items():
            client.set_experiment_tag(number, f"mlflow.sharedViewState.{key}", json.dumps(state))
        whole = mlflow.search_runs([number], WHOLE, order_by=["attributes.start_time"], output_format="list")
        for run, colour in zip(whole, cycle(COLOURS), strict=False):
            if COLOUR_TAG not in run.data.tags:
                client.set_tag(run.info.run_id, COLOUR_TAG, colour)


def find_experiments(names: list[str]) -> dict[str, str]:
    """Return the ids of the experiments that there are, by name."""
    found = {name: mlflow.get_experiment_by_name(name) for name in names}
    return {name: str(each.experiment_id) for name, each in found.items() if each is not None}


def link_to(experiment: str, view: str) -> str:
    """Return the address of a view below the server's own: COMPARED is charts of whole runs, FOLDS a table of all."""
    mode = "CHART" if view == COMPARED else "TABLE"
    asked = {"compareRunsMode": mode, "viewStateShareKey": view, "workflowType": "machine_learning"}
    return f"/#/experiments/{experiment}/runs?{urlencode(asked)}"


def _state(search: str) -> dict[str, Any]:
    """Return a view of the runs that a search in MLflow's language finds."""
    charts = [_chart("BAR", key, title, "scores") for key, title in BARS.items()]
    charts += [_chart("LINE", key, title, "curves") for key, title in CURVES.items()]
    sections = [("curves", "Learning curves"), ("scores", "Scores")]
    return {
        "searchFilter": search,
        "orderByKey": "metrics.`score`",
        "orderByAsc": False,
        "selectedColumns": list(COLUMNS),
        "columnOrder": list(COLUMNS),
        "runsHiddenMode": "FIRST_20_RUNS",
        "hideEmptyCharts": True,
        "compareRunCharts": charts,
        "compareRunSections": [
            {"uuid": key, "name": name, "display": True, "isReordered": False, "deleted": False, "isGenerated": False}
            for key, name in sections
        ],
        "isAccordionReordered": True,
    }


def _chart(kind: str, key: str, title: str, section: str) -> dict[str, Any]:
    chart = {
        "type": kind, "uuid": f"unroll-{key}", "metricSectionId": section, "metricKey": key, "displayName": title,
        "deleted": False, "isGenerated": False, "runsCountToCompare": 20,
    }  # fmt: skip
    if kind == "LINE":
        chart |= {
            "selectedMetricKeys": [key], "lineSmoothness": 0, "scaleType": "linear", "xAxisScaleType": "linear",
            "xAxisKey": "step", "selectedXAxisMetricKey": "", "yAxisKey": "metric", "yAxisExpressions": [],
            "range": {}, "ignoreOutliers": False, "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True,
        }  # fmt: skip
    return chart
