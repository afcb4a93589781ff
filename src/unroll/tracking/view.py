"""How MLflow's pages show a task's runs: columns, order and charts.

MLflow saves a shared view as a tag of the experiment, in the form of its pages' own state (MLflow 3).
"""

import json
from collections.abc import Sequence
from itertools import cycle
from typing import Any
from urllib.parse import urlencode

import mlflow

from unroll.tracking.queries import search_runs

MODELS = "tags.fold IS NULL"  # the filter that leaves out the runs of single folds
VIEWS = (  # key, filter, mode and title
    ("unroll", MODELS, "CHART", "runs compared"),
    ("unroll-folds", "", "TABLE", "table with folds"),
)
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

# Okabe and Ito's palette for color-blind readers; MLflow's own choice can give two runs the same color.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
COLOR_TAG = "mlflow.runColor"


def arrange_runs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Save the views of each experiment that exists, and color its runs of models; return titles and links.

    The links go below the server's address: charts of the models' runs, and a table of all runs.
    """
    client, links = mlflow.MlflowClient(), []
    for name in names:
        experiment = mlflow.get_experiment_by_name(name)
        if experiment is None:
            continue
        number = experiment.experiment_id
        for key, search, mode, title in VIEWS:
            client.set_experiment_tag(number, f"mlflow.sharedViewState.{key}", json.dumps(_state(search)))
            query = {"compareRunsMode": mode, "viewStateShareKey": key, "workflowType": "machine_learning"}
            links.append((f"{name}: {title}", f"/#/experiments/{number}/runs?{urlencode(query)}"))
        for run, color in zip(reversed(search_runs(MODELS, name)), cycle(COLORS), strict=False):
            if COLOR_TAG not in run.data.tags:
                client.set_tag(run.info.run_id, COLOR_TAG, color)
    return links


def _state(search: str) -> dict[str, Any]:
    """Return a view of the runs that a filter selects."""
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
