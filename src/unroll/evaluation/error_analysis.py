"""Where a model is wrong: pure functions on out-of-fold answers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Strings = npt.NDArray[np.object_]

DRAWS = 500
NEGATIONS = frozenset(
    (
        "not",
        "n't",
        "never",
        "no",
        "nothing",
        "nor",
        "neither",
        "none",
        "nobody",
        "without",
        "hardly",
        "barely",
        "cannot",
    )
)
CONTRASTS = frozenset(("but", "however", "although", "though", "yet", "despite", "while", "still"))


def make_answers(rows: pd.DataFrame, table: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """Put a model's answers beside the rows that they answer.

    Args:
        rows: the task's table of rows: row_id, group, text, label.
        table: out-of-fold probabilities: row_id, fold, and a column for each of the C labels.
        labels: names of those columns.

    Returns:
        One line a row of `table`, in its order: row_id, group, text, label, fold, predicted (numbers of labels), right,
        confidence (probability of the predicted label) and given (probability of the file's label).
    """
    answers = table[["row_id", "fold"]].merge(rows[["row_id", "group", "text", "label"]], on="row_id", how="left")
    probabilities = table[list(labels)].to_numpy(float)  # (R, C)
    predicted = probabilities.argmax(1)
    return answers.assign(
        predicted=predicted,
        right=predicted == answers["label"].to_numpy(),
        confidence=probabilities.max(1),
        given=probabilities[np.arange(len(table)), answers["label"].to_numpy()],
    )


def accuracy_by(right: Bools, kinds: Strings, order: Sequence[str], groups: Strings, *, seed: int) -> pd.DataFrame:
    """Return the accuracy of each kind of row, with its 95 % interval.

    Args:
        right: whether each row was answered right, (R,).
        kinds: the kind of each row, one of `order`, (R,).
        order: the kinds in the order to show them; a kind without rows is left out.
        groups: of the rows, (R,); the bootstrap draws whole groups, since the rows of a sentence are not independent.
        seed: of the bootstrap.

    Returns:
        Columns kind, rows, accuracy, low, high.
    """
    present = [kind for kind in order if (kinds == kind).any()]
    numbers = np.array([present.index(kind) for kind in kinds], dtype=np.int64)
    members = np.unique(groups.astype(str), return_inverse=True)[1]
    size = int(members.max()) + 1
    cells = members * len(present) + numbers
    shape = (size, len(present))
    rows = np.bincount(cells, minlength=size * len(present)).reshape(shape)  # (G, K)
    hits = np.bincount(cells, right.astype(float), size * len(present)).reshape(shape)  # (G, K)
    draws = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=DRAWS)
    both = [(weights @ rows, weights @ hits) for weights in np.array_split(draws, 5)]
    drawn_rows, drawn_hits = (np.concatenate(parts) for parts in zip(*both, strict=True))  # (D, K) each
    drawn = np.where(drawn_rows > 0, drawn_hits / np.maximum(drawn_rows, 1), np.nan)
    low, high = np.nanquantile(drawn, (0.025, 0.975), axis=0)
    accuracy = hits.sum(0) / rows.sum(0)
    return pd.DataFrame({"kind": present, "rows": rows.sum(0), "accuracy": accuracy, "low": low, "high": high})


def accuracy_interval(right: Bools, groups: Strings, *, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of the accuracy, by a bootstrap over whole groups; right and groups (R,)."""
    table = accuracy_by(right, np.full(len(right), "all", dtype=object), ["all"], groups, seed=seed)
    return float(table["low"].iloc[0]), float(table["high"].iloc[0])


def class_scores(labels: Ints, predicted: Ints, names: Sequence[str]) -> pd.DataFrame:
    """Return label, rows, precision, recall and f1 of each class; a class never predicted has a precision of 0."""
    precision, recall, f1, rows = precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(names)), zero_division=0
    )
    return pd.DataFrame({"label": list(names), "rows": rows, "precision": precision, "recall": recall, "f1": f1})


@dataclass(frozen=True)
class Reliability:
    """How far confidence can be trusted (Guo et al., 2017, "On calibration of modern neural networks").

    Attributes:
        bins: columns confidence (mean in the bin), accuracy, rows; bins without rows are left out.
        error: the expected calibration error, the mean distance of the two weighted by rows.
    """

    bins: pd.DataFrame
    error: float


def measure_reliability(confidence: Floats, right: Bools, bins: int = 10) -> Reliability:
    """Compare confidence and accuracy in bins of equal width; both (R,)."""
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    table = (
        pd.DataFrame({"bin": number, "confidence": confidence, "accuracy": right.astype(float)})
        .groupby("bin")
        .agg(confidence=("confidence", "mean"), accuracy=("accuracy", "mean"), rows=("accuracy", "size"))
        .reset_index(drop=True)
    )
    distance = (table["confidence"] - table["accuracy"]).abs()
    return Reliability(table, float((distance * table["rows"]).sum() / table["rows"].sum()))


def bin_counts(values: Ints, borders: Sequence[int]) -> tuple[Strings, list[str]]:
    """Name the range that each whole number lies in.

    Args:
        values: (R,), none smaller than the first border.
        borders: the smallest number of each range, ascending; the last range has no end.

    Returns:
        The name of each value's range, as "1", "2–3" or "10+", (R,), and all names in order.
    """
    names = []
    for begin, end in zip(borders, [*borders[1:], None], strict=True):
        names.append(f"{begin}+" if end is None else str(begin) if end == begin + 1 else f"{begin}–{end - 1}")
    return np.array(names, dtype=object)[np.searchsorted(borders, values, side="right") - 1], names


def bin_shares(shares: Floats) -> tuple[Strings, list[str]]:
    """Name the range that each share, 0 to 1, lies in; return the names, (R,), and all of them in order."""
    names = ["none", "up to ¼", "up to ½", "more"]
    return np.array(names, dtype=object)[np.searchsorted([0.0, 0.25, 0.5], shares, side="left")], names


def find_turns(rows: Sequence[Sequence[str]]) -> tuple[Strings, list[str]]:
    """Say of each row's tokens whether they hold a negation or a contrast; return the kinds, (R,), and their order."""
    order = ["neither", "negation", "contrast", "both"]
    found = []
    for row in rows:
        words = {token.lower() for token in row}
        found.append(order[bool(words & NEGATIONS) + 2 * bool(words & CONTRASTS)])
    return np.array(found, dtype=object), order


def measure_depths(sequence: Ints, start: Ints, end: Ints) -> Ints:
    """Count for each span how many other spans of its sequence hold it, (R,): 0 for a whole sentence.

    Args:
        sequence: which sequence each span lies in, (R,).
        start: first token, (R,).
        end: the token after the last one, (R,).
    """
    depths = np.zeros(len(sequence), dtype=np.int64)
    order = np.argsort(sequence, kind="stable")
    for inside in np.split(order, np.flatnonzero(np.diff(sequence[order])) + 1):
        first, last = start[inside], end[inside]
        holds = (first[:, None] <= first) & (last[:, None] >= last) & ((last - first)[:, None] > last - first)
        depths[inside] = holds.sum(0)
    return depths


def list_confusions(answers: pd.DataFrame, names: Sequence[str], *, most: int, examples: int) -> list[dict[str, Any]]:
    """Return the most frequent confusions: actual, predicted, rows, share of the actual label, example texts.

    The examples are those that the model was surest of.
    """
    wrong = answers[~answers["right"]]
    sizes = answers.groupby("label").size()
    found: list[dict[str, Any]] = []
    for number, inside in wrong.groupby(wrong["label"] * len(names) + wrong["predicted"]):
        label, predicted = divmod(int(str(number)), len(names))
        texts = inside.sort_values(["confidence", "row_id"], ascending=[False, True])["text"].drop_duplicates()
        found.append(
            {
                "actual": names[label],
                "predicted": names[predicted],
                "rows": len(inside),
                "share": len(inside) / sizes[label],
                "examples": texts.head(examples).tolist(),
            }
        )
    return sorted(found, key=lambda line: line["rows"], reverse=True)[:most]


def list_mistakes(answers: pd.DataFrame, names: Sequence[str], *, most: int) -> list[dict[str, Any]]:
    """Return the wrong answers that the model was surest of, each text once: text, actual, predicted, confidence."""
    wrong = answers[~answers["right"]].sort_values(["confidence", "row_id"], ascending=[False, True])
    return [
        {
            "text": row["text"],
            "actual": names[row["label"]],
            "predicted": names[row["predicted"]],
            "confidence": row["confidence"],
        }
        for row in wrong.drop_duplicates("text").head(most).to_dict("records")
    ]


def list_doubtful_labels(
    answers: pd.DataFrame, rows: pd.DataFrame, names: Sequence[str], *, most: int
) -> list[dict[str, Any]]:
    """Return the labels that look wrong: the file itself gives the same words the label that the model expects.

    Two texts have the same words where they differ in case, punctuation and blanks alone.

    Args:
        answers: of make_answers.
        rows: every labelled row of the task: text and label.
        names: of the labels.
        most: how many to return, those whose label the model thinks least likely first.

    Returns:
        text, actual, expected, given (probability of the file's label), twin (the other text with the expected label).
    """
    keys = rows["text"].map(_words_of)
    first = rows.assign(key=keys).drop_duplicates(["key", "label"])
    twins = dict(zip(zip(first["key"], first["label"], strict=True), first["text"], strict=True))
    wrong = answers[~answers["right"]].assign(key=lambda table: table["text"].map(_words_of))
    wrong = wrong[wrong["key"] != ""].sort_values(["given", "row_id"])
    found = [
        {
            "text": row["text"],
            "actual": names[row["label"]],
            "expected": names[row["predicted"]],
            "given": row["given"],
            "twin": twins[(row["key"], row["predicted"])],
        }
        for row in wrong.drop_duplicates("text").to_dict("records")
        if (row["key"], row["predicted"]) in twins
    ]
    return found[:most]


def _words_of(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
