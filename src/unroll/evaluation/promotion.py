"""Which model of a task is to answer: the best of one run of the pipeline, and whether it beats the present one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from unroll.evaluation.comparison import score_answers, shared_rows

ENOUGH = 0.5  # share of the smaller set of rows that both have to have answered


@dataclass(frozen=True)
class Decision:
    """Whether the newcomer becomes champion, and why, in words that go on after a colon."""

    moved: bool
    why: str


def choose_best(scores: Mapping[str, float]) -> str:
    """Return the name with the highest score; the ensemble, where it is as good as the best cell."""
    return max(scores, key=lambda name: (scores[name], name == "ensemble"))


def decide(
    new: pd.DataFrame, old: pd.DataFrame | None, labels: Sequence[str], metric: str, *, by_id: bool, outgrown: bool
) -> Decision:
    """Decide whether a new model is better than the champion, on the rows that both answered out of fold.

    A score on other rows says nothing, so the champion stays then.

    Args:
        new: the new model's answers, as `unroll.evaluation.comparison` has them.
        old: the champion's; None where they are not kept.
        labels: of the classes.
        metric: "accuracy" or "macro_f1".
        by_id: as in `shared_rows`.
        outgrown: the champion learned from the sample and the new one did not; the champion goes then.
    """
    if outgrown:
        return Decision(True, "the champion learned from the sample, this one did not")
    if old is None or not set(labels) <= set(old.columns):
        return Decision(False, "what the champion answered out of fold is not kept, so the two cannot be compared")
    mine, its = shared_rows([new, old], by_id=by_id)
    smaller = min(len(new), len(old))
    if len(mine) < ENOUGH * smaller:
        return Decision(
            False,
            f"the two share {len(mine):,} of {smaller:,} judged rows, and scores on other rows do not compare",
        )
    scores = [score_answers(table.iloc[rows], labels)[metric] for table, rows in ((new, mine), (old, its))]
    found = f"{metric} {scores[0]:.4f} against {scores[1]:.4f} on the {len(mine):,} rows that both answered out of fold"
    return Decision(scores[0] > scores[1], found)
