"""Charts of scores: learning curves, folds, confusions, reliability, and accuracy by kind of row."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import ConfusionMatrixDisplay

from unroll.evaluation.error_analysis import calibration_error
from unroll.evaluation.metrics import sign_of
from unroll.report.style import INK, Figure, new_figure, to_svg


def draw_curves(name: str, histories: Mapping[str, Sequence[pd.DataFrame]], metric: str) -> Figure:
    """Draw each cell's validation score by epoch, given its history on each fold: thin lines, and a thick mean."""
    key, title = f"valid_{metric}", f"validation {metric.replace('_', ' ')}"
    shown, best = ("{:.1%}", "max") if metric == "accuracy" else ("{:.4f}", "max" if sign_of(metric) > 0 else "min")
    with new_figure(3.4) as figure:
        axes = figure.add_subplot(xlabel="epoch", ylabel=title)
        parts = []
        for cell, folds in histories.items():
            mean = pd.concat(folds).groupby("epoch")[key].mean()
            (line,) = axes.plot(mean.index, mean, linewidth=2, label=cell)
            for fold in folds if len(folds) > 1 else ():
                (thin,) = axes.plot(fold["epoch"], fold[key], color=line.get_color(), marker="")
                thin.set(linewidth=0.8, alpha=0.5)
            last, peak = shown.format(mean.iloc[-1]), shown.format(mean.agg(best))
            parts.append(f"{cell} ends at {last}, its best epoch is at {peak}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if metric == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.legend(loc="best")
        return Figure(name, "Learning curves", f"{title.capitalize()} by epoch: {'; '.join(parts)}.", to_svg(figure))


def draw_kinds(name: str, title: str, panels: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the accuracy of kinds of rows with intervals: panels by name, each a table as of `accuracy_by`."""
    sizes = [len(table) for table in panels.values()]
    with new_figure(0.34 * sum(sizes) + 0.55 * len(panels) + 0.5) as figure:
        rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=[n + 0.6 for n in sizes])
        parts = []
        for axes, (panel, table) in zip(rows[:, 0], panels.items(), strict=True):
            positions, accuracy = np.arange(len(table))[::-1], table["accuracy"]
            errors = np.stack([accuracy - table["low"], table["high"] - accuracy]).clip(0)
            axes.errorbar(accuracy, positions, xerr=errors, linestyle="none")
            axes.set_yticks(positions, [f"{line.kind} ({line.rows:,})" for line in table.itertuples()])
            axes.set_ylim(-0.7, len(table) - 0.3)
            axes.set_title(panel, loc="left", color=INK, fontweight="bold")
            parts.append(f"{panel}: {', '.join(f'{line.kind} {line.accuracy:.1%}' for line in table.itertuples())}")
        rows[-1, 0].set_xlabel("accuracy (number of rows in brackets)")
        rows[-1, 0].xaxis.set_major_formatter(PercentFormatter(1))
        return Figure(name, title, f"{title}. {'; '.join(parts)}.", to_svg(figure))


def draw_reliability(name: str, predictions: Mapping[str, pd.DataFrame], main: str) -> Figure:
    """Draw accuracy by confidence, given predictions as of `add_outcomes`, and a histogram of the main model."""
    with new_figure(4.2) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        parts = []
        for model, table in predictions.items():
            error = calibration_error(table["confidence"].to_numpy(), table["correct"].to_numpy())
            parts.append(f"{model}: ECE {error:.3f}")
            CalibrationDisplay.from_predictions(
                table["correct"].astype(int), table["confidence"], n_bins=10, ax=top, name=parts[-1],
                linewidth=2.4 if model == main else 1,
            )  # fmt: skip
        confidence = predictions[main]["confidence"]
        share = np.full(len(confidence), 1 / len(confidence))
        bottom.hist(confidence, bins=np.linspace(0, 1, 11), weights=share, color=INK, rwidth=0.9)
        top.set(xlabel="", ylabel="accuracy")
        bottom.set(xlabel="confidence", ylabel="rows")
        for axis in (top.yaxis, bottom.xaxis, bottom.yaxis):
            axis.set_major_formatter(PercentFormatter(1))
        alt = (
            f"Accuracy by confidence, beside the diagonal of perfect calibration, with the expected calibration error "
            f"(ECE). {'; '.join(parts)}. Below: the share of the {main}'s rows by confidence."
        )
        return Figure(name, "Reliability: accuracy by confidence", alt, to_svg(figure))


def draw_confusion(name: str, title: str, predictions: pd.DataFrame, labels: Sequence[str]) -> Figure:
    """Draw the confusion matrix, normalized over the true labels, of predictions as of `add_outcomes`; C labels."""
    is_large = len(labels) > 8
    side = 0.42 * len(labels) + 2 if is_large else 4.6
    with new_figure(side, max(side + 0.8, 5.2)) as figure:
        axes = figure.add_subplot()
        display = ConfusionMatrixDisplay.from_predictions(
            predictions["label"], predictions["predicted"], labels=range(len(labels)), display_labels=labels,
            normalize="true", values_format=".0%", cmap="cividis", colorbar=False, ax=axes,
            text_kw={"fontsize": 8 if is_large else 10}, im_kw={"vmin": 0, "vmax": 1},
        )  # fmt: skip
        axes.grid(visible=False)
        axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor")
        shares = display.confusion_matrix
        for text, share in zip(display.text_.flat, shares.flat, strict=True):
            text.set_visible(share > 0)
        actual, predicted = divmod(int((shares - 2 * np.eye(len(labels))).argmax()), len(labels))
        alt = (
            f"Confusion matrix of {len(predictions):,} rows, {predictions['correct'].mean():.1%} correct. Most "
            f"frequent confusion: {shares[actual, predicted]:.0%} of {labels[actual]} predicted as {labels[predicted]}."
        )
        return Figure(name, title, alt, to_svg(figure), wide=is_large)
