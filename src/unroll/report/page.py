"""The report as one HTML file that needs nothing beside it, and a summary in Markdown for a pull request."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import jinja2
import pandas as pd

from unroll.report.style import INK, Figure

# An image in a page follows the reader's light or dark theme by a style of its own.
THEMES = f"""<style>
*[style*="{INK.lower()}"] {{ --ink: #55555c; }}
@media (prefers-color-scheme: dark) {{ *[style*="{INK.lower()}"] {{ --ink: #c3c3cc; }} }}
*[style*="fill: {INK.lower()}"] {{ fill: var(--ink) !important; }}
*[style*="stroke: {INK.lower()}"] {{ stroke: var(--ink) !important; }}
</style>"""


@dataclass(frozen=True)
class Table:
    """A table of texts with a caption.

    A label of the cells' index that is a string is the CSS class of its row.
    """

    name: str
    caption: str
    cells: pd.DataFrame
    in_summary: bool = False

    @property
    def text_columns(self) -> set[str]:
        """Return the columns with letters in them; the others are numbers, aligned to the right."""
        return {str(name) for name in self.cells if self.cells[name].str.contains(r"[^\W\d_]").any()}


@dataclass(frozen=True)
class Section:
    """A part of a chapter: its name as heading, a few words, figures and tables."""

    name: str
    text: str
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Chapter:
    """A task, or the lessons: the numbers to see first (title, value, note), facts (name, value) and sections.

    The extra figures are not in the page; they are written as files and attached to runs.
    """

    name: str
    title: str
    cards: Sequence[tuple[str, str, str]] = ()
    facts: Sequence[tuple[str, str]] = ()
    sections: Sequence[Section] = ()
    extra_figures: Sequence[Figure] = ()

    @property
    def figures(self) -> list[Figure]:
        """Return all figures."""
        return [*(figure for section in self.sections for figure in section.figures), *self.extra_figures]


def render(template: str, chapters: Sequence[Chapter], facts: Sequence[tuple[str, str]]) -> str:
    """Return page.html, or summary.md, which has the scores alone; the facts are what it was made from."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("unroll", "report"), autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["data_url"] = _data_url
    environment.filters["line"] = lambda cells: " | ".join(str(cell).replace("|", "\\|") for cell in cells)
    return environment.get_template(template).render(chapters=chapters, facts=facts)


def _data_url(figure: Figure) -> str:
    begin = figure.svg.index(">", figure.svg.index("<svg")) + 1
    themed = figure.svg[:begin] + THEMES + figure.svg[begin:]
    return "data:image/svg+xml;base64," + base64.b64encode(themed.encode()).decode()
