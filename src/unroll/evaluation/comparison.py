"""Two or more models compared on the rows that all of them predicted out of fold, and which one is the champion.

A table of predictions has the columns row_id, id, fold, group and text, the truth and the outputs (see
`unroll.data.rows`); one line for each row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unroll.data.competition import CLASSES, OF_PREDICTIONS, Competition
from unroll.data.rows import TRUTH, predictions_of, truth_of
from unroll.evaluation.decisions import decide_nested
from unroll.evaluation.metrics import FUNCTIONS, mean_by_group, score, sign_of
from unroll.evaluation.significance import Difference, accuracy_by, bootstrap, compare_scores
from unroll.models.decisions import Floats

MIN_SHARED = 0.5  # of the smaller set of rows


def join_predictions(predictions: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return a file of predictions as a table of predictions, given the task's table of rows."""
    columns = ["id", "group", "text", *(name for name in map(str, rows) if name.startswith(TRUTH))]
    return predictions.join(rows.set_index("row_id")[columns], on="row_id")


def decide_table(table: pd.DataFrame, task: Competition) -> Floats:
    """Return what is decided in a table of predictions, (R, K), by nested decisions."""
    predictions, truth = predictions_of(table, task), truth_of(table, task)
    return decide_nested(task, predictions, truth, table["fold"].to_numpy(), table["group"].to_numpy(object))


def score_table(table: pd.DataFrame, task: Competition, decided: Floats | None = None) -> dict[str, float]:
    """Return the scores of a table of predictions, by nested decisions unless others, (R, K), are given.

    Classes have a group_accuracy too, which counts each group once.
    """
    predictions, truth = predictions_of(table, task), truth_of(table, task)
    scores = score(task, predictions, truth, decide_table(table, task) if decided is None else decided)
    if task.kind in CLASSES:
        scores["group_accuracy"] = mean_by_group(task, predictions, truth, table["group"].to_numpy(object))
    return scores


def score_interval(table: pd.DataFrame, task: Competition, *, seed: int) -> tuple[float, float]:
    """Return the interval of the metric's score on a table of predictions, by a bootstrap over groups."""
    predictions, truth, decided = predictions_of(table, task), truth_of(table, task), decide_table(table, task)
    if task.metric == "accuracy":
        outcomes = table[["group"]].assign(correct=(decided == truth).all(1))
        line = accuracy_by(outcomes, pd.Categorical(["all"]).repeat(len(table)), seed=seed).iloc[0]
        return float(line["low"]), float(line["high"])
    metric, values = FUNCTIONS[task.metric], predictions if task.metric in OF_PREDICTIONS else decided
    return bootstrap(lambda rows: metric(task, truth[rows], values[rows]), table["group"], seed=seed)


def score_columns(table: pd.DataFrame, task: Competition) -> pd.DataFrame:
    """Return the scores of each target column of a table of predictions of labels or numbers, a line a column."""
    predictions, truth, decided = predictions_of(table, task), truth_of(table, task), decide_table(table, task)
    names = ("auc", "macro_f1", "log_loss") if task.kind == "multilabel" else ("rmse", "mae", "pearson", "spearman")
    lines = []
    for place, name in enumerate(task.output_names):
        one = [place]
        values = {each: (predictions if each in OF_PREDICTIONS else decided)[:, one] for each in names}
        scores = {each: FUNCTIONS[each](task, truth[:, one], values[each]) for each in names}
        lines.append({"column": name, "mean": float(truth[:, place].mean()), **scores})
    return pd.DataFrame(lines)


def shared_rows(tables: Sequence[pd.DataFrame], *, by_id: bool) -> list[npt.NDArray[np.int64]]:
    """Return for each table of predictions the positions, (R,), of the R rows that all have, all in the same order.

    A row is the same where group, text and truth are, and the id too with `by_id`. Without it ids are positions in a
    file, which an added line shifts, and rows that are alike are matched in their order.
    """
    keys = []
    for table in tables:
        columns = table[["group", "text", *(name for name in map(str, table) if name.startswith(TRUTH))]]
        number = table["id"] if by_id else columns.groupby(list(columns)).cumcount()
        keys.append(pd.MultiIndex.from_frame(columns.assign(number=number)))
    shared = reduce(lambda left, right: left[left.isin(right)], keys)
    return [np.asarray(key.get_indexer(shared), dtype=np.int64) for key in keys]


@dataclass(frozen=True)
class Disagreement:
    """Where two models decide differently; the examples are of classes, the most confident first."""

    rows: int
    only_first: int  # of them only the first model has correct
    only_second: int
    examples: list[Any]  # text, label, first and second class; one is correct
    difference: Difference  # of the scores on all rows


def find_disagreement(
    first: pd.DataFrame, second: pd.DataFrame, task: Competition, *, examples: int, seed: int
) -> Disagreement:
    """Compare two tables of predictions of the same rows in the same order; the seed is that of the bootstrap."""
    truth, both = truth_of(first, task), [predictions_of(table, task) for table in (first, second)]
    decided = [decide_table(table, task) for table in (first, second)]
    difference = compare_scores(task, both, truth, decided, first["group"], seed=seed)
    if task.kind == "number":
        return Disagreement(len(first), 0, 0, [], difference)
    differ, correct = (decided[0] != decided[1]).any(1), [(each == truth).all(1) for each in decided]  # (R,)
    shown: list[Any] = []
    if task.kind in CLASSES:
        table = first[["text"]].assign(label=truth[:, 0], first=decided[0][:, 0], second=decided[1][:, 0])
        table = table.astype(dict.fromkeys(("label", "first", "second"), int))
        confidence = np.minimum(both[0].max(1), both[1].max(1))
        chosen = table.assign(confidence=confidence)[differ & (correct[0] | correct[1])]
        chosen = chosen.sort_values("confidence", ascending=False, kind="stable")[list(table)]
        shown = list(chosen.drop_duplicates("text").head(examples).itertuples(index=False))
    only = [int((differ & one & ~other).sum()) for one, other in (correct, correct[::-1])]
    return Disagreement(int(differ.sum()), only[0], only[1], shown, difference)


def choose_best(scores: Mapping[str, float], metric: str) -> str:
    """Return the name with the best score of a metric; on a tie the ensemble."""
    return max(
        scores, key=lambda name: (np.nan_to_num(sign_of(metric) * scores[name], nan=-np.inf), name == "ensemble")
    )


def decide_promotion(
    new: pd.DataFrame, old: pd.DataFrame | None, task: Competition, *, old_is_sample: bool
) -> tuple[bool, str]:
    """Return whether a new model scores better than the champion on the rows that both predicted out of fold, and why.

    The champion's table of predictions is None where it is not available. With `old_is_sample` the champion alone was
    trained on the sample, and is replaced.
    """
    if old_is_sample:
        return True, "the champion was trained on the sample, this model was not"
    if old is None or not set(new.columns) <= set(old.columns):
        return False, "the champion's out-of-fold predictions are not available, so the two cannot be compared"
    positions = shared_rows([new, old], by_id=task.has_ids)
    shared, smaller = len(positions[0]), min(len(new), len(old))
    if shared < MIN_SHARED * smaller:
        return False, f"the two share {shared:,} of {smaller:,} out-of-fold rows, too few to compare them"
    tables = [table.iloc[rows] for table, rows in zip((new, old), positions, strict=True)]
    mine, its = (score_table(table, task)[task.metric] for table in tables)
    is_better = sign_of(task.metric) * (mine - its) > 0
    return is_better, f"{task.metric} {mine:.4f} against {its:.4f} on the {shared:,} out-of-fold rows of both"
