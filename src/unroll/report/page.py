"""The report: one HTML file that needs nothing beside it, and a summary in Markdown for a pull request."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2

from unroll.kaggle.ledger import Entry
from unroll.report.style import INK, Figure

# A picture in a page follows the reader's light or dark theme through a style of its own; the grey of the file on disk
# reads on both.
THEMES = f"""<style>
*[style*="{INK.lower()}"] {{ --ink: #55555c; }}
@media (prefers-color-scheme: dark) {{ *[style*="{INK.lower()}"] {{ --ink: #c3c3cc; }} }}
*[style*="fill: {INK.lower()}"] {{ fill: var(--ink) !important; }}
*[style*="stroke: {INK.lower()}"] {{ stroke: var(--ink) !important; }}
</style>"""


@dataclass(frozen=True)
class RunRow:
    """A line of the table of runs: out-of-fold scores, and those of the test part where its labels are known.

    `kind` is "best", "cell", "ensemble" or, of a run that the workspace has moved on from, "earlier".
    """

    name: str
    kind: str
    accuracy: float
    macro_f1: float
    log_loss: float
    started: str = ""
    run_id: str = ""
    kaggle_score: str = ""
    interval: tuple[float, float] | None = None
    group_accuracy: float | None = None
    test_accuracy: float | None = None
    weight: float | None = None
    best_epochs: str = ""


@dataclass(frozen=True)
class Card:
    """One thing to see first: what it is, its value, and a line on it."""

    title: str
    value: str
    note: str


@dataclass(frozen=True)
class TaskPart:
    """One task's part of the report.

    The figures come in groups, each under its heading with a sentence of explanation.
    """

    name: str
    title: str
    group_word: str
    cards: Sequence[Card]
    facts: Sequence[tuple[str, str]]
    runs: Sequence[RunRow]
    classes: Sequence[Mapping[str, Any]]
    confusions: Sequence[Mapping[str, Any]]
    mistakes: Sequence[Mapping[str, Any]]
    doubtful: Sequence[Mapping[str, Any]]
    submissions: Sequence[Entry]
    scores: Sequence[Figure] = ()
    errors: Sequence[Figure] = ()
    trees: Sequence[Figure] = ()
    readings: Sequence[Figure] = ()
    apart: Sequence[Figure] = ()

    @property
    def figures(self) -> list[Figure]:
        """Return every figure, those too that stand beside their runs alone and not on the page."""
        return [*self.scores, *self.errors, *self.trees, *self.readings, *self.apart]


@dataclass(frozen=True)
class Lesson:
    """What a cell said in one of the hello lessons: (epoch, loss, text) at the epochs where the text changed."""

    cell: str
    title: str
    steps: Sequence[tuple[int, float, str]]


def render_page(tasks: Sequence[TaskPart], lessons: Sequence[Lesson], facts: Sequence[tuple[str, str]]) -> str:
    """Return the page.

    Args:
        tasks: a part each.
        lessons: of the hello stage.
        facts: what the page was made from, as (name, value).
    """
    environment = _environment(autoescape=True)
    environment.filters["data_url"] = _data_url
    values = {
        "tasks": tasks,
        "lessons": lessons,
        "facts": facts,
        "style": _read("page.css"),
        "script": _read("page.js"),
    }
    return environment.from_string(_read("page.html")).render(values)


def render_summary(tasks: Sequence[TaskPart], facts: Sequence[tuple[str, str]]) -> str:
    """Return the same in Markdown, without figures and examples."""
    environment = _environment(autoescape=False)
    environment.filters["cell"] = lambda value: str(value).replace("|", "\\|")
    return environment.from_string(_read("summary.md")).render({"tasks": tasks, "facts": facts})


def _environment(*, autoescape: bool) -> jinja2.Environment:
    return jinja2.Environment(
        autoescape=autoescape,  # noqa: S701 (Markdown of our own numbers is not HTML)
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _read(name: str) -> str:
    return files("unroll.report").joinpath(name).read_text(encoding="utf-8")


def _data_url(figure: Figure) -> str:
    begin = figure.svg.index(">", figure.svg.index("<svg")) + 1
    themed = figure.svg[:begin] + THEMES + figure.svg[begin:]
    return "data:image/svg+xml;base64," + base64.b64encode(themed.encode()).decode()
