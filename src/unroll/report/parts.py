"""What the report says of one task: its figures and tables, made from rows, out-of-fold answers and bundles."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.metrics import confusion_matrix

from unroll.core.settings import TextConfig
from unroll.data.competition import Competition
from unroll.data.rows import TRAIN
from unroll.evaluation import error_analysis as analysis
from unroll.models.bundle import load_bundle
from unroll.models.cells import read_weights, unroll
from unroll.models.predictor import EnsemblePredictor, explain, load_predictor
from unroll.report.charts import draw_confusion, draw_curves, draw_folds, draw_kinds, draw_reliability, draw_sizes
from unroll.report.readings import Node, draw_after, draw_gates, draw_tree
from unroll.report.style import Figure
from unroll.text.encode import encode_rows
from unroll.text.spans import Ints
from unroll.text.tokenizer import get_tokenizer
from unroll.text.vocabulary import UNKNOWN_ID, Vocabulary

ENSEMBLE = "ensemble"
TREE_TOKENS = range(6, 17)  # lengths of a sentence that is drawn
NAME_TOKENS = range(5, 11)  # lengths of a name that is drawn


@dataclass(frozen=True)
class TaskResults:
    """What a task's models answered on the rows that each fold held out.

    Attributes:
        task: names the labels.
        text: how texts are cut.
        rows: the task's table of rows, the training part alone.
        tables: out-of-fold probabilities of each cell and of the ensemble: row_id, fold, a column a label.
        answers: analysis.make_answers of each of them.
        histories: each cell's epochs, a table a fold.
        vocabularies: of each fold that was run.
        seed: of every bootstrap here.
    """

    task: Competition
    text: TextConfig
    rows: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    answers: Mapping[str, pd.DataFrame]
    histories: Mapping[str, Sequence[pd.DataFrame]]
    vocabularies: Mapping[int, Vocabulary]
    seed: int

    @property
    def ensembled(self) -> pd.DataFrame:
        """Return the ensemble's answers."""
        return self.answers[ENSEMBLE]

    @property
    def reads_letters(self) -> bool:
        """Return whether a token is a letter."""
        return self.text.tokenizer == "characters"


def draw_scores(found: TaskResults) -> list[Figure]:
    """Draw the scores: curves, folds, reliability, the ensemble's confusions and, of many labels, sizes."""
    name, task = found.task.name, found.task
    cells = [model for model in found.answers if model != ENSEMBLE]
    figures = [
        draw_curves(f"{name}-curves", found.histories),
        draw_folds(f"{name}-folds", {cell: _by_fold(found.answers[cell], found.seed) for cell in cells}),
        draw_reliability(
            f"{name}-reliability",
            {
                model: analysis.measure_reliability(answers["confidence"].to_numpy(), answers["right"].to_numpy())
                for model, answers in found.answers.items()
            },
        ),
    ]
    if len(task.labels) > 8:
        sizes = np.bincount(found.rows["label"], minlength=len(task.labels)).tolist()
        figures.append(draw_sizes(f"{name}-sizes", score_classes(found), sizes, "rows"))
    return [*figures, draw_confusions(found, ENSEMBLE)]


def draw_confusions(found: TaskResults, model: str) -> Figure:
    """Draw one model's confusion matrix."""
    answers = found.answers[model]
    counts = confusion_matrix(answers["label"], answers["predicted"], labels=range(len(found.task.labels)))
    name = f"{found.task.name}-confusion-{model}"
    return draw_confusion(name, f"Confusions of the {model}", counts, found.task.label_names)


def score_classes(found: TaskResults) -> pd.DataFrame:
    """Return precision, recall and F1 of the ensemble, label by label."""
    answers = found.ensembled
    return analysis.class_scores(answers["label"].to_numpy(), answers["predicted"].to_numpy(), found.task.label_names)


def draw_errors(found: TaskResults) -> Figure:
    """Draw the ensemble's accuracy by length, by unknown tokens and, where tokens are words, by what the words do."""
    answers = found.ensembled
    tokenize = get_tokenizer(found.text)
    tokens = [tokenize(text) for text in answers["text"]]
    lengths = np.array([max(len(row), 1) for row in tokens])
    unknown = _unknown_shares(tokens, answers["fold"].tolist(), found.vocabularies)
    unit = "letters" if found.reads_letters else "words"
    borders = (1, 4, 5, 6, 7, 8, 10) if found.reads_letters else (1, 2, 3, 5, 10, 20)
    kinds = {f"by number of {unit}": analysis.bin_counts(lengths, borders)}
    kinds[f"by share of unknown {unit}"] = analysis.bin_shares(unknown)
    if not found.reads_letters:
        kinds["by negation (not, never) and contrast (but)"] = analysis.find_turns(tokens)
    if found.text.context == "sentence":
        _, spans = _place(found)
        depths = analysis.measure_depths(*spans)
        kinds["by depth: how many phrases hold it"] = analysis.bin_counts(depths, (0, 1, 2, 3, 5, 8))
    right, groups = answers["right"].to_numpy(), answers["group"].to_numpy(object)
    panels = {
        question: analysis.accuracy_by(right, values, order, groups, seed=found.seed)
        for question, (values, order) in kinds.items()
    }
    return draw_kinds(f"{found.task.name}-kinds", "Accuracy by kind of row", panels)


def draw_trees(found: TaskResults) -> list[Figure]:
    """Draw the phrases of up to three sentences.

    They are one with a contrast and one with a negation, both read rightly as a whole, and the one that was read
    wrongly with most confidence.
    """
    sequences, (sequence_of, start, end) = _place(found)
    answers = found.ensembled.reset_index(drop=True).assign(
        sequence=sequence_of, start=start, end=end, length=end - start
    )
    sizes = answers.groupby("sequence")["row_id"].transform("size")
    whole = np.array([len(sequences[number]) for number in sequence_of]) == answers["length"]
    roots = answers[whole & answers["length"].isin(TREE_TOKENS) & (sizes > 5)].assign(phrases=sizes)
    turns = analysis.find_turns([sequences[number] for number in roots["sequence"]])[0]
    neutral = (len(found.task.labels) - 1) / 2
    told = roots["right"] & (roots["label"] != neutral)
    choices = [
        roots[told & (turns == "contrast")].sort_values(["phrases", "row_id"], ascending=[False, True]),
        roots[told & (turns == "negation")].sort_values(["phrases", "row_id"], ascending=[False, True]),
        roots[~roots["right"]].sort_values(["confidence", "row_id"], ascending=[False, True]),
    ]
    figures = []
    for number, chosen in enumerate(choices):
        if len(chosen):
            sequence = chosen["sequence"].iloc[0]
            inside = answers[answers["sequence"] == sequence]
            columns = ("start", "end", "label", "predicted")
            nodes = [Node(*(int(row[name]) for name in columns)) for row in inside.to_dict("records")]
            name = f"{found.task.name}-tree-{number}"
            figures.append(draw_tree(name, sequences[sequence], nodes, found.task.label_names))
    return figures


def draw_reading(
    found: TaskResults, weights: Mapping[str, float], folder_of: Callable[[str, int], Path]
) -> list[Figure]:
    """Draw how names are read letter by letter, each by the bundles that had it held out, and the gates on one.

    The names: the one whose answer changed most often and ended right, and the one read wrongly with most confidence.

    Args:
        found: of the task.
        weights: of the cells in the ensemble.
        folder_of: the folder of a cell's bundle of a fold.
    """
    answers = found.ensembled
    fold = int(answers["fold"].iloc[0])
    inside = answers[(answers["fold"] == fold) & answers["text"].str.len().isin(NAME_TOKENS)].drop_duplicates("text")
    inside = inside[inside["text"].str.fullmatch(r"[^\W\d_]+")]
    predictor = load_predictor({cell: [folder_of(cell, fold)] for cell in weights}, weights, found.task.labels)
    surest = inside.sort_values(["confidence", "row_id"], ascending=[False, True])
    figures = []
    turned = _find_turned(predictor, surest[surest["right"]]["text"].tail(60).tolist())
    wrong = surest[~surest["right"]].head(1)
    names = found.task.label_names
    for number, (text, said) in enumerate(
        [
            *((text, "read rightly after changes of mind") for text in turned),
            *((row["text"], f"read wrongly: the file says {names[row['label']]}") for row in wrong.to_dict("records")),
        ]
    ):
        (reading,) = explain(predictor, [text])
        title = f"“{text}”, {said}"
        figures.append(draw_after(f"{found.task.name}-after-{number}", title, reading.tokens, reading.after, names))
    for text in turned or surest["text"].head(1).tolist():
        figures += [_draw_gates(found.task.name, folder_of(cell, fold), text) for cell in weights]
    return figures


def _find_turned(predictor: EnsemblePredictor, texts: Sequence[str]) -> list[str]:
    """Return the text whose likeliest label changed most often while it was read, none where none changed."""
    changes = [int((np.diff(reading.after.argmax(1)) != 0).sum()) for reading in explain(predictor, texts)]
    return [texts[int(np.argmax(changes))]] if max(changes, default=0) else []


def _draw_gates(task: str, folder: Path, text: str) -> Figure:
    """Run the first layer of a bundle forward over a text, as the equations of cells.py."""
    bundle = load_bundle(folder)
    tokens = get_tokenizer(bundle.text)(text)
    layer = bundle.model.recurrent
    numbers = torch.from_numpy(bundle.vocabulary.encode(tokens).astype(np.int64))[None]  # (1, T)
    with torch.inference_mode():
        hidden, _, gates = unroll(bundle.cell, bundle.model.embed(numbers), read_weights(layer))  # (1, T, H)
    states = {name: values[0].numpy() for name, values in {**gates, "hidden": hidden}.items()}
    return draw_gates(f"{task}-gates-{bundle.cell}", bundle.cell, tokens, states)


def _by_fold(answers: pd.DataFrame, seed: int) -> pd.DataFrame:
    folds = answers["fold"].astype(str).to_numpy(object)
    order = [str(fold) for fold in sorted(answers["fold"].unique())]
    right, groups = answers["right"].to_numpy(), answers["group"].to_numpy(object)
    return analysis.accuracy_by(right, folds, order, groups, seed=seed)


def _unknown_shares(
    rows: Sequence[Sequence[str]], folds: Sequence[int], vocabularies: Mapping[int, Vocabulary]
) -> npt.NDArray[np.float64]:
    """Return the share of each row's tokens that the vocabulary of its fold does not hold, (R,)."""
    return np.array(
        [
            (vocabularies[fold].encode(row) == UNKNOWN_ID).mean() if row else 1.0
            for row, fold in zip(rows, folds, strict=True)
        ]
    )


def _place(found: TaskResults) -> tuple[list[list[str]], tuple[Ints, Ints, Ints]]:
    """Return the tokens of S sentences, and each out-of-fold row's sentence, first token and end in it, (R,) each."""
    rows = found.ensembled.assign(row_id=np.arange(len(found.ensembled)))
    encoded = encode_rows([rows.to_dict("list")], found.text)
    corpus, words = encoded.corpus, np.array(encoded.tokens, dtype=object)
    sequences = [part.tolist() for part in np.split(words[corpus.tokens], corpus.offsets[1:-1])]
    order = np.argsort(corpus.row_ids)
    sequence = np.repeat(np.arange(len(corpus)), np.diff(corpus.span_offsets))
    return sequences, (sequence[order], corpus.starts[order], corpus.ends[order])


def keep_training(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the training part."""
    return rows[rows["part"] == TRAIN]
