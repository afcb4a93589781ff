"""Charts of scores: learning curves, folds, confusions, reliability, and accuracy by kinds of rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from unroll.evaluation.error_analysis import Reliability
from unroll.report.style import INK, PALETTE, Figure, new_figure, to_svg


def draw_curves(name: str, histories: Mapping[str, Sequence[pd.DataFrame]]) -> Figure:
    """Draw the validation accuracy of each cell by epoch, folds as thin lines and their mean as a thick one.

    Args:
        name: of the file.
        histories: for each cell one table a fold with the columns epoch and valid_accuracy.
    """
    with new_figure(3.4) as figure:
        axes = figure.add_subplot()
        ends = []
        for (cell, folds), colour, marker in zip(histories.items(), PALETTE, "os^Dv*", strict=False):
            for fold in folds if len(folds) > 1 else ():
                axes.plot(fold["epoch"], fold["valid_accuracy"] * 100, color=colour, linewidth=0.8, alpha=0.5)
            mean = pd.concat(folds).groupby("epoch")["valid_accuracy"].mean() * 100
            axes.plot(mean.index, mean, color=colour, linewidth=2, marker=marker, markersize=4, label=cell)
            ends.append(f"{cell} ends at {mean.iloc[-1]:.1f} % and is best at {mean.max():.1f} %")
        axes.set(xlabel="epoch", ylabel="validation accuracy (%)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", alpha=0.25)
        axes.legend(loc="lower right")
        return Figure(name, "Learning curves", f"Validation accuracy by epoch: {'; '.join(ends)}.", to_svg(figure))


def draw_folds(name: str, folds: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the accuracy of each cell on each fold that was held out, with its 95 % interval.

    Args:
        name: of the file.
        folds: for each cell a table of accuracy_by whose kinds are folds.
    """
    with new_figure(3.2) as figure:
        axes = figure.add_subplot()
        told = []
        for number, ((cell, table), colour, marker) in enumerate(zip(folds.items(), PALETTE, "os^Dv*", strict=False)):
            places = np.arange(len(table)) + (number - (len(folds) - 1) / 2) * 0.18
            _draw_interval(axes, places, table, colour, marker, cell, upright=True)
            told.append(f"{cell} {', '.join(f'{value:.1%}' for value in table['accuracy'])}")
        first = next(iter(folds.values()))
        axes.set_xticks(np.arange(len(first)), first["kind"])
        axes.set(xlabel="fold held out", ylabel="accuracy (%)", xlim=(-0.6, len(first) - 0.4))
        axes.grid(axis="y", alpha=0.25)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        alt = f"Accuracy on each fold held out, folds {', '.join(first['kind'])}: {'; '.join(told)}."
        return Figure(name, "Accuracy by cell and fold, with 95 % intervals", alt, to_svg(figure))


def draw_kinds(name: str, title: str, panels: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the accuracy of kinds of rows, one predictor below the other on one scale, with intervals and row counts.

    Args:
        name: of the file.
        title: of the figure.
        panels: for each question a table of accuracy_by.
    """
    heights = [len(table) for table in panels.values()]
    with new_figure(0.34 * sum(heights) + 0.55 * len(panels) + 0.5) as figure:
        rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=[n + 0.6 for n in heights])
        told = []
        for axes, (question, table), colour in zip(rows[:, 0], panels.items(), PALETTE, strict=False):
            places = np.arange(len(table))[::-1]
            _draw_interval(axes, places, table, colour, "o", None, upright=False)
            ticks = [f"{kind} ({count:,})" for kind, count in zip(table["kind"], table["rows"], strict=True)]
            axes.set_yticks(places, ticks)
            axes.set_ylim(-0.7, len(table) - 0.3)
            axes.set_title(question, loc="left", color=INK, fontweight="bold")
            axes.grid(axis="x", alpha=0.25)
            parts = ", ".join(
                f"{kind} {value:.0%}" for kind, value in zip(table["kind"], table["accuracy"], strict=True)
            )
            told.append(f"{question}: {parts}")
        rows[-1, 0].set_xlabel("accuracy (%); in brackets the number of rows")
        return Figure(name, title, f"Accuracy by kind of row. {'; '.join(told)}.", to_svg(figure))


def draw_reliability(name: str, models: Mapping[str, Reliability]) -> Figure:
    """Draw how often predictions of a confidence are correct, the ensemble thick, with the share of rows at each."""
    with new_figure(4.2) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        top.plot([0, 100], [0, 100], color=INK, linewidth=1, linestyle=":")
        told = []
        for (model, found), colour, marker in zip(models.items(), PALETTE, "os^Dv*", strict=False):
            thick = 2.4 if model == "ensemble" else 1
            label = f"{model}: error {found.error:.3f}"
            top.plot(found.bins["confidence"] * 100, found.bins["accuracy"] * 100, color=colour, marker=marker,
                     markersize=4, linewidth=thick, label=label)  # fmt: skip
            told.append(f"{model} {found.error:.3f}")
        last = models[list(models)[-1]].bins
        bottom.bar(last["confidence"] * 100, last["rows"] / last["rows"].sum() * 100, width=7, color=INK)
        bottom.set(xlabel="confidence (%)", ylabel="rows (%)", xlim=(0, 102))
        top.set(ylabel="accuracy (%)", ylim=(0, 102))
        top.legend(loc="lower right")
        alt = (
            f"Accuracy by confidence, beside the diagonal of a model that is right as often as it is sure. Expected "
            f"calibration error: {', '.join(told)}. Below: the share of rows at each confidence of {list(models)[-1]}."
        )
        return Figure(name, "Reliability: is it right as often as it is sure?", alt, to_svg(figure))


def draw_sizes(name: str, scores: pd.DataFrame, sizes: Sequence[int], unit: str) -> Figure:
    """Draw the share found of each label against the number of its training rows.

    Args:
        name: of the file.
        scores: of class_scores.
        sizes: training rows of each label, in the same order.
        unit: what a row is, in the plural.
    """
    with new_figure(3.8) as figure:
        axes = figure.add_subplot()
        axes.scatter(sizes, scores["recall"] * 100, color=PALETTE[0], s=18)
        for label, size, recall in zip(scores["label"], sizes, scores["recall"] * 100, strict=True):
            axes.annotate(label, (size, recall), xytext=(4, 3), textcoords="offset points", fontsize=8, color=INK)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.15)
        axes.set(xlabel=f"training {unit} of the label", ylabel="of these found (%)", ylim=(-4, 108))
        axes.grid(alpha=0.25)
        order = scores.sort_values("recall")
        alt = (
            f"Share found of each label against its number of training {unit}. Lowest: "
            f"{order['label'].iloc[0]} {order['recall'].iloc[0]:.0%}; highest: {order['label'].iloc[-1]} "
            f"{order['recall'].iloc[-1]:.0%}."
        )
        return Figure(name, "Accuracy by label and how much of it there is to learn from", alt, to_svg(figure))


def draw_confusion(name: str, title: str, counts: npt.NDArray[np.int64], labels: Sequence[str]) -> Figure:
    """Draw how often each label (row) was read as each label (column), shaded by the share of the row.

    Args:
        name: of the file.
        title: of the figure.
        counts: (C, C).
        labels: C names.
    """
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    small = len(labels) > 8
    side = 0.42 * len(labels) + 2 if small else 4.6
    with new_figure(side, max(side + 0.8, 5.2)) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(shares * 100, cmap="cividis", vmin=0, vmax=100)
        ticks = range(len(labels))
        axes.set_xticks(ticks, labels, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(ticks, labels)
        axes.set(xlabel="predicted", ylabel="true")
        for row in ticks:
            for column in ticks:
                if counts[row, column]:
                    share = f"{shares[row, column]:.0%}"
                    text = f"{counts[row, column]:,}" if small else f"{share}\n{counts[row, column]:,}"
                    colour = "black" if shares[row, column] > 0.5 else "white"
                    axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8 if small else 9)
        figure.colorbar(image, label="share of the true label (%)", shrink=0.8)
        wrong = shares.copy()
        np.fill_diagonal(wrong, -1)
        row, column = np.unravel_index(wrong.argmax(), wrong.shape)
        alt = (
            f"Confusion matrix of {int(counts.sum()):,} rows, {np.trace(counts) / max(counts.sum(), 1):.1%} right. "
            f"Its most frequent confusion: {shares[row, column]:.0%} of {labels[row]} are read as {labels[column]}."
        )
        return Figure(name, title, alt, to_svg(figure), wide=small)


def _draw_interval(
    axes: Any, places: npt.NDArray[Any], table: pd.DataFrame, colour: str, marker: str, label: str | None,
    *, upright: bool,
) -> None:  # fmt: skip
    middle = table["accuracy"] * 100
    reach = np.stack([middle - table["low"] * 100, table["high"] * 100 - middle]).clip(0)
    values = {"x": places, "y": middle, "yerr": reach} if upright else {"x": middle, "y": places, "xerr": reach}
    axes.errorbar(**values, fmt=marker, color=colour, markersize=5, linewidth=1.6, label=label)
