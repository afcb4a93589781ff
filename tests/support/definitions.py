"""The project's own competitions, and ones made for a test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unroll.data.competition import Competition, Kind, load_competition

FOLDER = Path(__file__).parents[2] / "competitions"


def load_task(name: str) -> Competition:
    """Return the definition of `sentiment` or `surnames`."""
    return load_competition(FOLDER / f"{name}.yaml")


def define(labels: Sequence[str], metric: str, kind: Kind = "classes", **more: Any) -> Competition:
    """Return a definition with the labels of its only column, or with columns of labels or numbers."""
    target: dict[str, Any] = {"columns": tuple(labels), "kind": kind}
    if kind in ("classes", "ordinal"):
        target = {"columns": ("label",), "kind": kind, "labels": tuple(labels)}
    content = {"name": "mood", "title": "mood", "folder": "mood", "train": "train.csv", "text": ("text",), "id": "id"}
    return Competition.model_validate({**content, "target": target, "metric": metric, **more})
