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
    ("unroll", MODELS, "CHART", "runs compared"), ("unroll-folds", "", "TABLE", "table with folds"),
)  # fmt: skip
COLUMNS = [
    "params.`cell`", "params.`fold`", "metrics.`score`", "metrics.`best_accuracy`", "metrics.`best_macro_f1`",
    "metrics.`best_log_loss`", "metrics.`best_epoch`", "tags.`task`",
]  # fmt: skip
SECTIONS = {
    "Learning curves": ("LINE", ("valid_accuracy", "valid_log_loss", "loss")),
    "Scores": ("BAR", ("score", "best_macro_f1", "best_log_loss")),
}
# Okabe and Ito's palette for color-blind readers; MLflow's own choice can give two runs the same color.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")


def arrange_runs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Save the views of each experiment that exists, and color its runs of models; return titles and links.

    The links go below the server's address: charts of the models' runs, and a table of all runs.
    """
    client, links = mlflow.MlflowClient(), []
    for experiment in filter(None, map(mlflow.get_experiment_by_name, names)):
        number = experiment.experiment_id
        for key, search, mode, title in VIEWS:
            client.set_experiment_tag(number, f"mlflow.sharedViewState.{key}", json.dumps(_state(search)))
            query = {"compareRunsMode": mode, "viewStateShareKey": key, "workflowType": "machine_learning"}
            links.append((f"{experiment.name}: {title}", f"/#/experiments/{number}/runs?{urlencode(query)}"))
        for run, color in zip(reversed(search_runs(MODELS, experiment.name)), cycle(COLORS), strict=False):
            if "mlflow.runColor" not in run.data.tags:
                client.set_tag(run.info.run_id, "mlflow.runColor", color)
    return links


def _state(search: str) -> dict[str, Any]:
    shown = {"display": True, "isReordered": False, "deleted": False, "isGenerated": False}
    return {
        "searchFilter": search, "orderByKey": "metrics.`score`", "orderByAsc": False, "isAccordionReordered": True,
        "selectedColumns": COLUMNS, "columnOrder": COLUMNS, "runsHiddenMode": "FIRST_20_RUNS", "hideEmptyCharts": True,
        "compareRunCharts": [_chart(kind, key, name) for name, (kind, keys) in SECTIONS.items() for key in keys],
        "compareRunSections": [{"uuid": name, "name": name, **shown} for name in SECTIONS],
    }  # fmt: skip


def _chart(kind: str, key: str, section: str) -> dict[str, Any]:
    line = {
        "selectedMetricKeys": [key], "lineSmoothness": 0, "scaleType": "linear", "xAxisScaleType": "linear",
        "xAxisKey": "step", "selectedXAxisMetricKey": "", "yAxisKey": "metric", "yAxisExpressions": [], "range": {},
        "ignoreOutliers": False, "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True,
    }  # fmt: skip
    return {
        "type": kind, "uuid": f"unroll-{key}", "metricSectionId": section, "metricKey": key, "displayName": key,
        "deleted": False, "isGenerated": False, "runsCountToCompare": 20, **(line if kind == "LINE" else {}),
    }  # fmt: skip
