"""What all figures of the report share: size, colours, and how they become SVG."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.figure import Figure as MatplotlibFigure

# Okabe and Ito's palette, which is safe for colour-blind readers; the grey has contrast on white and on black.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
INK = "#767676"
CREATOR = "unroll: report"
WIDTH = 5.2  # inches: on a phone's screen text of eleven points stays readable
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 11,
    "svg.fonttype": "none",
    "svg.hashsalt": "unroll",
    **dict.fromkeys(["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"], INK),
    "axes.prop_cycle": cycler(color=PALETTE, marker=list("os^Dv*")),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.fontsize": 10,
}


@dataclass(frozen=True)
class Figure:
    """A figure: its file's name, its title, a description for screen readers, and whether it is wider than a phone."""

    name: str
    title: str
    alt: str
    svg: str
    wide: bool = False


@contextmanager
def new_figure(height: float, width: float = WIDTH) -> Iterator[MatplotlibFigure]:
    """Yield an empty figure, sizes in inches; the report's style applies inside the block."""
    with matplotlib.rc_context(STYLE):
        yield MatplotlibFigure(figsize=(width, height), layout="constrained")


def to_svg(figure: MatplotlibFigure) -> str:
    """Return the figure as SVG, the same for the same figure."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": CREATOR})
    return stream.getvalue()


def is_of_report(path: Path) -> bool:
    """Return whether an SVG file is one that `to_svg` made."""
    return f"<dc:title>{CREATOR}</dc:title>" in path.read_text(encoding="utf-8", errors="replace")
