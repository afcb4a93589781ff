"""The report's figures, as SVG that reads on a light and on a dark page."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's palette, which colour-blind readers can tell apart; grey text has contrast on white and on black.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
INK = "#767676"
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 11,
    "svg.fonttype": "none",
    "svg.hashsalt": "unroll",
    **dict.fromkeys(["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"], INK),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 12,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Figure:
    """A drawing, its name as a file, its title and what it shows in words."""

    name: str
    title: str
    alt: str
    svg: str


def draw_curves(name: str, title: str, histories: Mapping[str, Sequence[pd.DataFrame]]) -> Figure:
    """Draw the validation accuracy of each cell by epoch, folds as thin lines and their mean as a thick one.

    Args:
        name: of the file.
        title: of the figure.
        histories: for each cell one table a fold with the columns epoch and valid_accuracy.
    """
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(7, 3.6), layout="constrained")
        axes = canvas.add_subplot()
        ends = []
        for (cell, folds), colour in zip(histories.items(), PALETTE, strict=False):
            for fold in folds if len(folds) > 1 else ():
                axes.plot(fold["epoch"], fold["valid_accuracy"] * 100, color=colour, linewidth=0.8, alpha=0.5)
            mean = pd.concat(folds).groupby("epoch")["valid_accuracy"].mean() * 100
            axes.plot(mean.index, mean, color=colour, linewidth=2, marker="o", markersize=4, label=cell)
            ends.append(f"{cell} ends at {mean.iloc[-1]:.1f} % and is best at {mean.max():.1f} %")
        axes.set(xlabel="epoch", ylabel="validation accuracy (%)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", alpha=0.25)
        axes.legend(loc="lower right")
        return Figure(name, title, f"Validation accuracy by epoch: {'; '.join(ends)}.", _svg(canvas))


def draw_confusion(name: str, title: str, counts: npt.NDArray[np.int64], labels: Sequence[str]) -> Figure:
    """Draw how often each label (row) was read as each label (column), shaded by the share of the row.

    Args:
        name: of the file.
        title: of the figure.
        counts: (C, C).
        labels: C names.
    """
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = max(4.5, 0.42 * len(labels) + 2)
    small = len(labels) > 8
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(side + 0.8, side), layout="constrained")
        axes = canvas.add_subplot()
        image = axes.imshow(shares * 100, cmap="cividis", vmin=0, vmax=100)
        ticks = range(len(labels))
        axes.set_xticks(ticks, labels, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(ticks, labels)
        axes.set(xlabel="predicted", ylabel="true")
        for row in ticks:
            for column in ticks:
                if counts[row, column]:
                    text = (
                        f"{counts[row, column]:,}" if small else f"{shares[row, column]:.0%}\n{counts[row, column]:,}"
                    )
                    colour = "black" if shares[row, column] > 0.5 else "white"
                    axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=6 if small else 9)
        canvas.colorbar(image, label="share of the true label (%)", shrink=0.8)
        wrong = shares.copy()
        np.fill_diagonal(wrong, -1)
        row, column = np.unravel_index(wrong.argmax(), wrong.shape)
        alt = (
            f"Confusion matrix of {int(counts.sum()):,} rows, {np.trace(counts) / max(counts.sum(), 1):.1%} right. "
            f"Its most frequent confusion: {shares[row, column]:.0%} of {labels[row]} are read as {labels[column]}."
        )
        return Figure(name, title, alt, _svg(canvas))


def _svg(canvas: Canvas) -> str:
    stream = io.StringIO()
    canvas.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return stream.getvalue()
