"""What every figure of the report shares: its size, its colours, and how it becomes SVG."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure as MatplotlibFigure

# Okabe and Ito's palette, which colour-blind readers can tell apart; grey text has contrast on white and on black.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
INK = "#767676"
WIDTH = 5.2  # inches: as wide as a phone's screen, where text of eleven points is then still read
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 11,
    "svg.fonttype": "none",
    "svg.hashsalt": "unroll",
    **dict.fromkeys(["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"], INK),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "legend.frameon": False,
    "legend.fontsize": 10,
}


@dataclass(frozen=True)
class Figure:
    """A drawing, its name as a file, its title and what it shows in words; a wide one is not squeezed on a phone."""

    name: str
    title: str
    alt: str
    svg: str
    wide: bool = False


@contextmanager
def new_figure(height: float, width: float = WIDTH) -> Iterator[MatplotlibFigure]:
    """Give an empty figure of so many inches, in the report's style while the block lasts."""
    with matplotlib.rc_context(STYLE):
        yield MatplotlibFigure(figsize=(width, height), layout="constrained")


def to_svg(figure: MatplotlibFigure) -> str:
    """Return the drawing as SVG, the same for the same drawing."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return stream.getvalue()
