"""From predictions to decided values: the most probable class, thresholds, or cut points of the expected level."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from unroll.data.competition import CLASSES, Competition

Floats = npt.NDArray[np.floating[Any]]
Rule = Literal["none", "argmax", "threshold", "thresholds", "cuts"]


@dataclass(frozen=True)
class Decision:
    """A rule from predictions (R, P) to decided values (R, K), in the form of the truth: classes, 0 or 1, numbers.

    Attributes:
        rule: `none`, the predictions themselves; `argmax`; `threshold` of the positive one of two classes;
            `thresholds`, one a label; `cuts`, C - 1 ascending points between the expected numbers of C ordered levels.
        values: of the rule.
    """

    rule: Rule
    values: tuple[float, ...] = ()

    @classmethod
    def default(cls, task: Competition) -> Self:
        """Return the rule that needs no fitting."""
        if task.kind == "number":
            return cls("none")
        return cls("thresholds", (0.5,) * len(task.outputs)) if task.kind == "multilabel" else cls("argmax")

    @classmethod
    def of_content(cls, content: Mapping[str, Any], task: Competition) -> Self:
        """Rebuild a rule from JSON.

        Raises:
            ValueError: it is not one for the task.
        """
        found = cls(content["rule"], tuple(map(float, content["values"])))
        outputs = len(task.outputs)
        sizes = {"threshold": 1, "thresholds": outputs, "cuts": outputs - 1}
        if found.rule not in get_args(Rule) or len(found.values) != sizes.get(found.rule, 0):
            raise ValueError(f"expected {sizes.get(found.rule, 0)} values of the rule {found.rule}")
        return found

    def apply(self, predictions: Floats, task: Competition) -> Floats:
        """Return the decided values, (R, K), of predictions (R, P)."""
        if self.rule == "none":
            return predictions
        if self.rule == "thresholds":
            return (predictions >= np.array(self.values)).astype(np.float64)
        if self.rule == "cuts":
            classes = np.searchsorted(self.values, predictions @ np.arange(predictions.shape[1]), side="right")
        elif self.rule == "threshold":
            positive = task.positive_class
            classes = np.where(predictions[:, positive] >= self.values[0], positive, 1 - positive)
        else:
            classes = predictions.argmax(1)
        return classes[:, None].astype(np.float64)


def name_prediction(task: Competition, outputs: Floats, decided: Floats) -> dict[str, Any]:
    """Return what is predicted for a text by name, given its outputs, (P,), and what is decided from them, (K,).

    One of several labels has `label`, its `probability` and the `probabilities` of all; several labels have `labels`,
    those decided on, and `probabilities`; numbers have `values`.
    """
    named = dict(zip(task.outputs, outputs.tolist(), strict=True))
    if task.kind == "number":
        return {"values": named}
    if task.kind in CLASSES:
        label = task.outputs[int(decided[0])]
        return {"label": label, "probability": named[label], "probabilities": named}
    labels = [name for name, value in zip(task.outputs, decided, strict=True) if value]
    return {"labels": labels, "probabilities": named}
