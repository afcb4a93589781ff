"""Which model of a task is registered as champion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from unroll.evaluation.comparison import score_predictions, shared_rows

MIN_SHARED = 0.5  # of the smaller set of rows


@dataclass(frozen=True)
class Decision:
    """Whether to promote the new model, and the reason."""

    promote: bool
    why: str


def choose_best(scores: Mapping[str, float]) -> str:
    """Return the name with the highest score; on a tie the ensemble."""
    return max(scores, key=lambda name: (scores[name], name == "ensemble"))


def decide(
    new: pd.DataFrame, old: pd.DataFrame | None, labels: Sequence[str], metric: str, *, by_id: bool, old_is_sample: bool
) -> Decision:
    """Decide whether a new model scores higher than the champion on the rows that both predicted out of fold.

    The two tables of predictions, None where the champion's are not available, and `by_id` are as in
    `unroll.evaluation.comparison`. With `old_is_sample` the champion alone was trained on the sample, and is replaced.
    """
    if old_is_sample:
        return Decision(True, "the champion was trained on the sample, this model was not")
    if old is None or not set(labels) <= set(old.columns):
        return Decision(
            False, "the champion's out-of-fold predictions are not available, so the two cannot be compared"
        )
    positions = shared_rows([new, old], by_id=by_id)
    shared, smaller = len(positions[0]), min(len(new), len(old))
    if shared < MIN_SHARED * smaller:
        return Decision(False, f"the two share {shared:,} of {smaller:,} out-of-fold rows, too few to compare them")
    mine, its = (
        score_predictions(table.iloc[rows], labels)[metric] for table, rows in zip((new, old), positions, strict=True)
    )
    return Decision(mine > its, f"{metric} {mine:.4f} against {its:.4f} on the {shared:,} out-of-fold rows of both")
