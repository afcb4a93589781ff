"""The report: one HTML file that needs nothing beside it."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2

from unroll.ledger import Entry
from unroll.report.figures import Figure


@dataclass(frozen=True)
class RunRow:
    """A line of the table of runs: out-of-fold scores, and those of the test part where its labels are known."""

    name: str
    kind: str
    weight: float
    accuracy: float
    group_accuracy: float
    macro_f1: float
    log_loss: float
    test_accuracy: float | None
    best_epochs: str
    run_id: str | None
    kaggle_score: str


@dataclass(frozen=True)
class TaskPart:
    """One task's part of the report."""

    name: str
    title: str
    headline: str
    group_word: str
    facts: Sequence[tuple[str, str]]
    runs: Sequence[RunRow]
    figures: Sequence[Figure]
    submissions: Sequence[Entry]


@dataclass(frozen=True)
class Lesson:
    """What a cell said in one of the hello lessons: (epoch, loss, text) at the epochs where the text changed."""

    cell: str
    title: str
    steps: Sequence[tuple[int, float, str]]


def render(tasks: Sequence[TaskPart], lessons: Sequence[Lesson], facts: Sequence[tuple[str, str]]) -> str:
    """Return the page.

    Args:
        tasks: a part each.
        lessons: of the hello stage.
        facts: what the page was made from, as (name, value).
    """
    template = files("unroll.report").joinpath("page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["data_url"] = _data_url
    values: dict[str, Any] = {"tasks": tasks, "lessons": lessons, "facts": facts}
    return environment.from_string(template).render(values)


def _data_url(figure: Figure) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(figure.svg.encode()).decode()
