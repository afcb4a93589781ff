"""Where a model is wrong: kinds of rows, frequent confusions, confident mistakes and doubtful labels."""

import re
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from unroll.data.competition import Competition
from unroll.data.rows import predictions_of, truth_of
from unroll.evaluation.comparison import decide_table
from unroll.evaluation.significance import Kinds
from unroll.models.decisions import Floats

Ints = npt.NDArray[np.int64]
LONGEST_TEXT = 300  # characters that are shown
TURNS = ("neither", "negation", "contrast", "both")
NEGATIONS = {"not", "n't", "never", "no", "nothing", "nor", "neither", "none", "nobody", "without", "hardly", "barely",
             "cannot"}  # fmt: skip
CONTRASTS = {"but", "however", "although", "though", "yet", "despite", "while", "still"}


def add_outcomes(table: pd.DataFrame, task: Competition) -> pd.DataFrame:
    """Add the outcome of each row to a table of predictions of classes, as in `unroll.evaluation.comparison`.

    The columns are label and predicted (numbers of classes), correct, confidence (the largest probability) and
    label_probability (of the true label).
    """
    probabilities, truth = predictions_of(table, task), truth_of(table, task)[:, 0].astype(np.int64)
    predicted = decide_table(table, task)[:, 0].astype(np.int64)
    return table.assign(
        label=truth,
        predicted=predicted,
        correct=predicted == truth,
        confidence=probabilities.max(1),
        label_probability=probabilities[np.arange(len(truth)), truth],
    )


def calibration_error(confidence: Floats, correct: npt.NDArray[np.bool_], bins: int = 10) -> float:
    """Return the expected calibration error of R rows, in bins of equal width.

    See Guo et al. (2017), "On calibration of modern neural networks".
    """
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(number, confidence - correct)).sum() / len(confidence))


def by_range(values: Ints, starts: Sequence[int]) -> Kinds:
    """Return the range of each of R whole numbers, such as "1", "2–3" or "10+", given the start of each range."""
    names = [str(low) if high == low + 1 else f"{low}–{high - 1}" for low, high in pairwise(starts)]
    return pd.cut(values, [*starts, np.inf], right=False, labels=[*names, f"{starts[-1]}+"])


def by_turn(rows: Iterable[Sequence[str]]) -> Kinds:
    """Return whether the tokens of each of R rows have a negation, a contrast, both or neither."""
    words = [{token.lower() for token in row} for row in rows]
    turns = [TURNS[bool(row & NEGATIONS) + 2 * bool(row & CONTRASTS)] for row in words]
    return pd.Categorical(turns, TURNS)


def measure_depths(spans: pd.DataFrame) -> Ints:
    """Count the longer spans of the same sequence that contain each span: 0 for a whole sentence.

    The R spans have the columns sequence (a number), start, and end (the token after the last one); counts are (R,).
    """
    spans = spans[["sequence", "start", "end"]].reset_index(drop=True)
    depths = -spans.groupby(list(spans.columns)).cumcount().to_numpy(np.int64)  # equal spans do not contain each other
    ends: dict[int, list[int]] = defaultdict(list)  # of the spans so far of each sequence, ascending
    for row, sequence, _, end in spans.sort_values(list(spans.columns), ascending=[True, True, False]).itertuples():
        depths[row] += len(ends[sequence]) - bisect_left(ends[sequence], end)
        insort(ends[sequence], end)
    return np.asarray(depths, dtype=np.int64)


def list_confusions(predictions: pd.DataFrame, names: Sequence[str], *, most: int, examples: int) -> pd.DataFrame:
    """Return the most frequent confusions in predictions as of add_outcomes; `names` are those of the labels.

    The columns are label, predicted, rows, share (of the label's rows) and examples (the most confident ones, as one
    text).
    """
    pairs = _wrong(predictions, "confidence", ascending=False).groupby(["label", "predicted"])["text"]
    found = pd.DataFrame(
        {"rows": pairs.size(), "examples": pairs.agg(lambda texts: " · ".join(texts.unique()[:examples]))}
    )
    found = found.sort_values("rows", ascending=False, kind="stable").head(most).reset_index()
    found.insert(3, "share", found["rows"] / found["label"].map(predictions["label"].value_counts()))
    return _with_names(found, names)


def list_mistakes(predictions: pd.DataFrame, names: Sequence[str], *, most: int) -> pd.DataFrame:
    """Return the most confident wrong predictions, each text once: text, label, predicted, confidence."""
    found = _wrong(predictions, "confidence", ascending=False).drop_duplicates("text").head(most)
    return _with_names(found[["text", "label", "predicted", "confidence"]], names)


def list_largest_errors(table: pd.DataFrame, task: Competition, *, most: int) -> dict[str, pd.DataFrame]:
    """Return for each column of labels or numbers the rows with the largest errors: text, truth, predicted, error."""
    predictions, truth, found = predictions_of(table, task), truth_of(table, task), {}
    for place, name in enumerate(task.output_names):
        columns = {"truth": truth[:, place], "predicted": predictions[:, place]}
        errors = table[["text"]].assign(**columns, error=predictions[:, place] - truth[:, place])
        order = errors["error"].abs().sort_values(ascending=False, kind="stable").index
        found[name] = errors.loc[order].drop_duplicates("text").head(most)
        found[name]["text"] = found[name]["text"].str.slice(0, LONGEST_TEXT)
    return found


def list_doubtful_labels(
    predictions: pd.DataFrame, rows: pd.DataFrame, names: Sequence[str], *, most: int
) -> pd.DataFrame:
    """Return labels that look wrong: among all labelled `rows`, the same words have the predicted label.

    Two texts have the same words where they differ only in case, punctuation and whitespace. The columns are text,
    label, label_probability, predicted and same_words (the other text); the least probable labels come first.
    """
    twins = pd.DataFrame({"words": rows["text"].map(_words_of), "predicted": rows["label"], "same_words": rows["text"]})
    wrong = _wrong(predictions, "label_probability", ascending=True)
    wrong = wrong.assign(words=wrong["text"].map(_words_of)).query("words != ''")
    found = wrong.merge(twins.drop_duplicates(["words", "predicted"]), on=["words", "predicted"])
    found = found.drop_duplicates("text").head(most)
    return _with_names(found[["text", "label", "label_probability", "predicted", "same_words"]], names)


def _wrong(predictions: pd.DataFrame, by: str, *, ascending: bool) -> pd.DataFrame:
    return predictions[~predictions["correct"]].sort_values([by, "row_id"], ascending=[ascending, True])


def _with_names(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    return table.assign(**{column: [names[number] for number in table[column]] for column in ("label", "predicted")})


def _words_of(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
