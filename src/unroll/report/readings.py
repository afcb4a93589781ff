"""How a model reads: a sentence's phrases as a tree, the answer after each letter, and the gates of a cell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.patches import Rectangle

from unroll.report.style import INK, PALETTE, Figure, new_figure, to_svg

Floats = npt.NDArray[np.floating]

EQUATIONS = {  # those of cells.py; σ is the logistic function
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
UNITS = 12  # of the hidden state, those that move most


@dataclass(frozen=True)
class Node:
    """A phrase of a sentence: its tokens from start to end, and what it was given and read as (numbers of labels)."""

    start: int
    end: int
    label: int
    predicted: int


def draw_tree(name: str, tokens: Sequence[str], nodes: Sequence[Node], labels: Sequence[str]) -> Figure:
    """Draw the label of every phrase above the words that it spans.

    A phrase that was read otherwise than the file says has a frame and both numbers, the file's second.

    Args:
        name: of the file.
        tokens: of the sentence, (T,).
        nodes: its phrases.
        labels: their names, from one end to the other.
    """
    colours = colormaps["RdBu"](np.linspace(0.12, 0.88, len(labels)))
    heights = measure_heights(nodes)
    widths = np.array([len(token) + 2.0 for token in tokens])
    edges = np.concatenate([[0], np.cumsum(widths)])
    levels = max(heights) + 1
    with new_figure(0.34 * levels + 1.0, max(7.5, 0.1 * edges[-1])) as figure:
        axes = figure.add_subplot()
        for node, height in zip(nodes, heights, strict=True):
            left, right = edges[node.start], edges[node.end]
            wrong = node.predicted != node.label
            box = Rectangle(
                (left + 0.2, height + 0.08), right - left - 0.4, 0.84, facecolor=colours[node.predicted],
                edgecolor=INK, linewidth=2.6 if wrong else 0.5,
            )  # fmt: skip
            axes.add_patch(box)
            dark = abs(node.predicted - (len(labels) - 1) / 2) > (len(labels) - 1) / 3
            text = f"{node.predicted}≠{node.label}" if wrong else str(node.predicted)
            axes.text((left + right) / 2, height + 0.5, text, ha="center", va="center", fontsize=9,
                      color="white" if dark else "black")  # fmt: skip
        for token, left, right in zip(tokens, edges, edges[1:], strict=False):
            axes.text((left + right) / 2, -0.1, token, ha="center", va="top", fontsize=10)
        axes.set(xlim=(0, edges[-1]), ylim=(-0.8, levels))
        axes.axis("off")
        handles = [Rectangle((0, 0), 1, 1, facecolor=colour) for colour in colours]
        keys = [f"{number} {label}" for number, label in enumerate(labels)]
        figure.legend(handles, keys, loc="outside lower center", ncols=3, fontsize=8, handlelength=1)
        root = max(nodes, key=lambda node: node.end - node.start)
        right = sum(node.predicted == node.label for node in nodes)
        alt = (
            f"The phrases of “{' '.join(tokens)}” as a tree: the whole is read as {labels[root.predicted]}, the file "
            f"says {labels[root.label]}; {right} of {len(nodes)} phrases are read as the file says."
        )
        return Figure(name, f"“{' '.join(tokens)}”", alt, to_svg(figure), wide=True)


def measure_heights(nodes: Sequence[Node]) -> list[int]:
    """Return how many phrases lie below each one, one inside the other."""
    heights = [0] * len(nodes)
    for number in sorted(range(len(nodes)), key=lambda number: nodes[number].end - nodes[number].start):
        node = nodes[number]
        inside = [
            heights[other]
            for other, below in enumerate(nodes)
            if node.start <= below.start and below.end <= node.end and below.end - below.start < node.end - node.start
        ]
        heights[number] = max(inside, default=-1) + 1
    return heights


def draw_after(name: str, title: str, tokens: Sequence[str], after: Floats, labels: Sequence[str]) -> Figure:
    """Draw the probability of the likeliest labels after each token.

    Args:
        name: of the file.
        title: of the figure.
        tokens: (T,).
        after: probabilities after each token, the rest not yet read, (T, C).
        labels: C names.
    """
    shown = np.argsort(-after.max(0), kind="stable")[:4]
    with new_figure(3.0) as figure:
        axes = figure.add_subplot()
        places = np.arange(len(tokens))
        for label, colour, marker in zip(shown, PALETTE, "os^Dv*", strict=False):
            axes.plot(places, after[:, label] * 100, color=colour, marker=marker, linewidth=2, label=labels[label])
        axes.set_xticks(places, tokens)
        axes.set(xlabel="read so far, letter by letter", ylabel="probability (%)", ylim=(-3, 103))
        axes.grid(axis="y", alpha=0.25)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        steps = ", ".join(f"{''.join(tokens[: t + 1])}: {labels[after[t].argmax()]}" for t in range(len(tokens)))
        return Figure(name, title, f"The likeliest label after each letter: {steps}.", to_svg(figure))


def draw_gates(name: str, cell: str, tokens: Sequence[str], states: Mapping[str, Floats]) -> Figure:
    """Draw what a cell's gates do at each token, each under its equation.

    Args:
        name: of the file.
        cell: "RNN", "LSTM" or "GRU".
        tokens: (T,).
        states: each gate and the hidden state, (T, H), by the names of cells.py.
    """
    hidden = states["hidden"]
    units = np.sort(np.argsort(-hidden.std(0), kind="stable")[:UNITS])
    equations = EQUATIONS[cell]
    with new_figure(1.75 * len(equations) + 0.4) as figure:
        rows = figure.subplots(len(equations), 1, sharex=True, squeeze=False)
        for axes, (gate, equation) in zip(rows[:, 0], equations.items(), strict=True):
            is_switch = equation.count("σ") > 0
            reach = 1.0 if gate != "cell" else max(1.0, float(np.abs(states[gate][:, units]).max()))
            image = axes.imshow(
                states[gate][:, units].T, aspect="auto", cmap="cividis" if is_switch else "RdBu",
                vmin=0 if is_switch else -reach, vmax=reach, interpolation="nearest",
            )  # fmt: skip
            axes.set_title(f"{gate}: {equation}", loc="left", color=INK)
            axes.set_yticks([])
            axes.set_ylabel("units")
            figure.colorbar(image, ax=axes, pad=0.02)
        rows[-1, 0].set_xticks(range(len(tokens)), tokens)
        alt = (
            f"{cell}: {', '.join(equations)} at each letter of “{''.join(tokens)}”, for the {len(units)} units of the "
            "hidden state that move most. σ opens and closes from 0 to 1; the others lie around 0."
        )
        return Figure(name, f"{cell} reads “{''.join(tokens)}”", alt, to_svg(figure))
