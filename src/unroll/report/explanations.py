"""What models do with single texts: the phrases of a sentence as a tree, predictions by letter, the gates of a cell."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import colormaps
from matplotlib.patches import Rectangle

from unroll.evaluation.error_analysis import by_turn
from unroll.models.bundle import load_bundle
from unroll.models.cells import read_weights, unroll
from unroll.models.decisions import Floats
from unroll.models.predictor import explain, load_predictor
from unroll.report.results import TaskResults
from unroll.report.style import INK, Figure, new_figure, to_svg
from unroll.text.encode import SpanAligner
from unroll.text.vocabulary import UNKNOWN, get_tokenizer

EQUATIONS = {  # those of unroll.models.cells; σ is the logistic function
    "RNN": {"hidden": "h′ = tanh(W_ih x + b_ih + W_hh h + b_hh)"},
    "LSTM": {
        "input": "i = σ(W_ii x + b_ii + W_hi h + b_hi)",
        "forget": "f = σ(W_if x + b_if + W_hf h + b_hf)",
        "candidate": "g = tanh(W_ig x + b_ig + W_hg h + b_hg)",
        "output": "o = σ(W_io x + b_io + W_ho h + b_ho)",
        "cell": "c′ = f · c + i · g",
        "hidden": "h′ = o · tanh(c′)",
    },
    "GRU": {
        "reset": "r = σ(W_ir x + b_ir + W_hr h + b_hr)",
        "update": "z = σ(W_iz x + b_iz + W_hz h + b_hz)",
        "candidate": "n = tanh(W_in x + b_in + r · (W_hn h + b_hn))",
        "hidden": "h′ = (1 − z) · n + z · h",
    },
}
TREE_TOKENS = range(6, 17)  # lengths of a sentence that is drawn
NAME_LETTERS = range(5, 11)  # lengths of a name that is drawn
CANDIDATES = 60  # names among which the one with the most changes is searched
UNITS = 12  # of the hidden state, those with the largest standard deviation
TOP_LABELS = 4


def place_rows(results: TaskResults) -> pd.DataFrame:
    """Return the ensemble's predictions with the span of each row: sequence (a number), start, end, and its tokens."""
    tokenize, aligner = get_tokenizer(results.config.text), SpanAligner()
    sequences: list[list[str]] = []
    spans = []
    for group, text in zip(results.ensembled["group"], results.ensembled["text"], strict=True):
        tokens = tokenize(text) or [UNKNOWN]
        sequence, start = aligner.place(tokens, group)
        if sequence == len(sequences):
            sequences.append(tokens)
        spans.append((sequence, start, start + len(tokens), sequences[sequence]))
    table = pd.DataFrame(spans, columns=["sequence", "start", "end", "tokens"])
    return results.ensembled.reset_index(drop=True).join(table)


def draw_trees(results: TaskResults, placed: pd.DataFrame) -> list[Figure]:
    """Draw up to three sentences: correct ones with a contrast and with a negation, and the most confident mistake.

    The rows are those of place_rows. Of the correct sentences, those with most phrases are drawn, and none with the
    middle label of the scale.
    """
    phrases, length = placed.groupby("sequence")["row_id"].transform("size"), placed["tokens"].map(len)
    table = placed.assign(phrases=phrases, turn=by_turn(placed["tokens"]))
    wholes = table[(table["end"] - table["start"] == length) & length.isin(TREE_TOKENS) & (phrases > 5)]
    telling = wholes[wholes["correct"] & (wholes["label"] != (len(results.task.outputs) - 1) / 2)]
    telling = telling.sort_values(["phrases", "row_id"], ascending=[False, True])
    mistakes = wholes[~wholes["correct"]].sort_values(["confidence", "row_id"], ascending=[False, True])
    figures: list[Figure] = []
    for choice in (telling[telling["turn"] == "contrast"], telling[telling["turn"] == "negation"], mistakes):
        for number, tokens in choice[["sequence", "tokens"]].head(1).to_numpy():
            name, inside = f"{results.task.name}-tree-{len(figures)}", table[table["sequence"] == number]
            figures.append(draw_tree(name, tokens, inside, results.task.output_names))
    return figures


def draw_tree(name: str, tokens: Sequence[str], phrases: pd.DataFrame, labels: Sequence[str]) -> Figure:
    """Draw the predicted label of every phrase above the words that it spans; a wrong one has a frame and both labels.

    Phrases have start, end, label and predicted (numbers of labels); the C labels are in the order of a scale.
    """
    colours, middle = colormaps["RdBu"](np.linspace(0.12, 0.88, len(labels))), (len(labels) - 1) / 2
    edges = np.concatenate([[0], np.cumsum([len(token) + 2.0 for token in tokens])])
    lines = phrases[["start", "end", "label", "predicted"]].to_numpy().tolist()
    heights: dict[tuple[int, int], int] = {}  # how many phrases lie below each one, one inside the other
    for start, end, *_ in sorted(lines, key=lambda line: line[1] - line[0]):
        inside = [height for (left, right), height in heights.items() if start <= left and right <= end]
        heights.setdefault((start, end), max(inside, default=-1) + 1)
    levels = max(heights.values()) + 1
    with new_figure(0.34 * levels + 1.0, max(7.5, 0.1 * edges[-1])) as figure:
        axes = figure.add_subplot(xlim=(0, edges[-1]), ylim=(-0.8, levels))
        axes.axis("off")
        for start, end, label, predicted in lines:
            left, width, bottom = edges[start], edges[end] - edges[start], heights[start, end]
            text, frame = (predicted, 0.5) if predicted == label else (f"{predicted}≠{label}", 2.6)
            box = ((left + 0.2, bottom + 0.08), width - 0.4, 0.84)
            axes.add_patch(Rectangle(*box, facecolor=colours[predicted], edgecolor=INK, linewidth=frame))
            colour = "white" if abs(predicted - middle) > middle * 2 / 3 else "black"
            axes.text(left + width / 2, bottom + 0.5, text, ha="center", va="center", fontsize=9, color=colour)
        for token, left, right in zip(tokens, edges, edges[1:], strict=False):
            axes.text((left + right) / 2, -0.1, token, ha="center", va="top", fontsize=10)
        handles = [Rectangle((0, 0), 1, 1, facecolor=colour) for colour in colours]
        keys = [f"{number} {label}" for number, label in enumerate(labels)]
        figure.legend(handles, keys, loc="outside lower center", ncols=3, fontsize=8, handlelength=1)
        _, _, label, predicted = max(lines, key=lambda line: line[1] - line[0])
        sentence, correct = " ".join(tokens), int((phrases["label"] == phrases["predicted"]).sum())
        alt = (
            f"The phrases of “{sentence}” as a tree: the sentence is predicted as {labels[predicted]}, its label is "
            f"{labels[label]}; {correct} of {len(lines)} phrases are correct."
        )
        return Figure(name, f"“{sentence}”", alt, to_svg(figure), wide=True)


def draw_names(results: TaskResults) -> list[Figure]:
    """Draw predictions letter by letter, by the bundles that had the name held out, and the gates on the first name.

    The names are the correct one whose prediction changes most often and the most confident mistake.
    """
    task, weights, fold = results.task, results.details["ensemble_weights"], int(results.ensembled["fold"].iloc[0])
    table = results.ensembled[results.ensembled["fold"] == fold].drop_duplicates("text")
    table = table[table["text"].str.len().isin(NAME_LETTERS) & table["text"].str.fullmatch(r"[^\W\d_]+")]
    table = table.sort_values(["confidence", "row_id"], ascending=[False, True])
    if not len(table):
        return []
    folders = {cell: results.bundles[cell][fold] for cell in weights}
    predictor = load_predictor({cell: [folder] for cell, folder in folders.items()}, weights, task.outputs)
    correct, wrong = table[table["correct"]].tail(CANDIDATES), table[~table["correct"]].head(1)
    explanations = explain(predictor, [*correct["text"], *wrong["text"]])
    changes = [(np.diff(each.after.argmax(1)) != 0).sum() for each in explanations[: len(correct)]]
    chosen = [(explanations[int(np.argmax(changes))], "correct after changes")] if max(changes, default=0) else []
    if len(wrong):
        chosen.append((explanations[-1], f"wrong, the label is {task.output_names[wrong['label'].iloc[0]]}"))
    figures = []
    for number, (explanation, outcome) in enumerate(chosen):
        title, name = f"“{''.join(explanation.tokens)}”: {outcome}", f"{task.name}-after-{number}"
        figures.append(draw_after(name, title, explanation.tokens, explanation.after, task.output_names))
    tokens = (chosen[0][0] if chosen else explanations[0]).tokens
    return figures + [draw_gates(f"{task.name}-gates-{cell}", folder, tokens) for cell, folder in folders.items()]


def draw_after(name: str, title: str, tokens: Sequence[str], after: Floats, labels: Sequence[str]) -> Figure:
    """Draw the probabilities (T, C) of the most probable of C labels after each of T letters."""
    with new_figure(3.0) as figure:
        axes = figure.add_subplot(xlabel="text so far, letter by letter", ylabel="probability", ylim=(-0.03, 1.03))
        for label in np.argsort(-after.max(0), kind="stable")[:TOP_LABELS]:
            axes.plot(after[:, label], linewidth=2, label=labels[label])
        axes.set_xticks(range(len(tokens)), tokens)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        steps = (f"{''.join(tokens[: t + 1])}: {labels[best]}" for t, best in enumerate(after.argmax(1)))
        return Figure(name, title, f"The most probable label after each letter: {', '.join(steps)}.", to_svg(figure))


def draw_gates(name: str, folder: Path, tokens: Sequence[str]) -> Figure:
    """Draw the gates of a bundle's first layer at each of T letters, reading forward, each gate under its equation."""
    bundle = load_bundle(folder)
    numbers = torch.from_numpy(bundle.vocabulary.encode(tokens).astype(np.int64))[None]  # (1, T)
    with torch.inference_mode():
        hidden, _, gates = unroll(bundle.cell, bundle.model.embed(numbers), read_weights(bundle.model.recurrent))
    states = {gate: values[0].numpy() for gate, values in {**gates, "hidden": hidden}.items()}  # (T, H) each
    units = np.sort(np.argsort(-states["hidden"].std(0), kind="stable")[:UNITS])
    equations = EQUATIONS[bundle.cell]
    with new_figure(1.75 * len(equations) + 0.4) as figure:
        rows = figure.subplots(len(equations), 1, sharex=True, squeeze=False)
        for axes, (gate, equation) in zip(rows[:, 0], equations.items(), strict=True):
            values = states[gate][:, units].T  # (units, T)
            high = max(1.0, float(np.abs(values).max()))
            low, colours = (0.0, "cividis") if "σ" in equation else (-high, "RdBu")
            image = axes.imshow(values, aspect="auto", cmap=colours, vmin=low, vmax=high, interpolation="nearest")
            axes.grid(visible=False)
            axes.set_title(f"{gate}: {equation}", loc="left", color=INK)
            axes.set(yticks=[], ylabel="units")
            figure.colorbar(image, ax=axes, pad=0.02)
        rows[-1, 0].set_xticks(range(len(tokens)), tokens)
        title = f"The gates of the {bundle.cell} on “{''.join(tokens)}”"
        alt = f"{title}, for the {len(units)} units of the hidden state that vary most: {', '.join(equations)}."
        return Figure(name, title, alt, to_svg(figure))
