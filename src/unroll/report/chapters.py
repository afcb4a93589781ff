"""The chapters of the report: which numbers, figures and tables it shows, and the words around them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

from unroll.core.files import read_json
from unroll.data.competition import CLASSES
from unroll.evaluation import error_analysis as analysis
from unroll.evaluation.comparison import score_columns, score_interval
from unroll.evaluation.metrics import sign_of
from unroll.evaluation.significance import accuracy_by
from unroll.models.bundle import load_bundle
from unroll.report.charts import draw_confusion, draw_curves, draw_kinds, draw_reliability
from unroll.report.explanations import draw_names, draw_trees, place_rows
from unroll.report.page import Chapter, Section, Table
from unroll.report.results import ENSEMBLE, TaskResults
from unroll.report.style import Figure
from unroll.text.vocabulary import UNKNOWN_ID, get_tokenizer

EXAMPLES = 10  # lines of a table of examples
STEPS = 12  # of a lesson
NONE = "–"
NOT_SHOWN = ("rows", "group_accuracy")  # in the columns of scores
TITLES = {
    "macro_f1": "macro-F1", "micro_f1": "micro-F1", "f1": "F1", "log_loss": "log loss (nats)", "auc": "AUC",
    "mcc": "MCC", "quadratic_kappa": "quadratic weighted kappa", "rmse": "RMSE", "mae": "MAE",
    "mcrmse": "mean column-wise RMSE", "pearson": "Pearson", "spearman": "Spearman",
}  # fmt: skip
MODELS = "Out-of-fold scores, slightly optimistic: the best epoch is chosen on the same rows."
LABELS = (
    "The ensemble by label. Precision: share of predictions of this label that are correct. Recall: share of this "
    "label's rows that are predicted correctly."
)
ERRORS = {
    "confusions": "The most frequent confusions, with the most confident examples.",
    "mistakes": "The most confident mistakes.",
    "doubts": "Doubtful labels: elsewhere the same words, but for case and punctuation, have the predicted label.",
}
TREES = (
    "The predicted label of every phrase, above the words that it spans. A frame marks a wrong one: predicted ≠ label. "
    "A phrase that occurs earlier in the competition's files is not repeated there, and is missing here."
)
LETTERS = (
    "Predictions after each letter, by models that had the name held out, and the gates of each cell reading forward: "
    "x is the letter's embedding, h the state before it, h′ the state after it."
)
LEDGER_IDS = ["file_sha256", "ensemble_sha256", "mlflow_run", "git_commit", "dvc_lock_sha256"]


def make_chapter(results: TaskResults) -> Chapter:
    """Return the chapter of one task."""
    is_classes = results.task.kind in CLASSES
    ends = {name: score_interval(table, results.task, seed=results.seed) for name, table in results.predictions.items()}
    intervals = {name: f"{low:.4f}–{high:.4f}" for name, (low, high) in ends.items()}
    sections = [
        Section("models", MODELS, tables=[_list_models(results, intervals)]),
        Section(
            "pretraining",
            "Language models of other texts, from which training began.",
            tables=_list_pretrained(results),
        ),
        Section("scores", "On held-out rows.", _draw_scores(results), [_score_outputs(results)]),
    ]
    if is_classes:
        placed = place_rows(results) if results.config.text.context == "sentence" else None
        sections += [
            Section("errors", "Errors of the ensemble.", _draw_errors(results, placed), _list_errors(results)),
            Section("trees", TREES, [] if placed is None else draw_trees(results, placed)),
            Section("letters", LETTERS, draw_names(results) if results.reads_letters else []),
        ]
    else:
        sections.append(Section("errors", "Errors of the ensemble.", tables=_list_largest_errors(results)))
    sections.append(Section("submissions", "Submissions to Kaggle.", tables=_list_submissions(results)))
    return Chapter(
        name=results.task.name,
        title=results.task.title,
        cards=_list_cards(results, intervals),
        facts=results.facts,
        sections=[section for section in sections if section.figures or section.tables],
        extra_figures=[_draw_confusion(results, cell) for cell in results.bundles if is_classes],
    )


def _list_cards(results: TaskResults, intervals: Mapping[str, str]) -> list[tuple[str, str, str]]:
    details, metric = results.details, results.details["metric"]
    title, best = _title(metric), details["best_cell"]
    weights = "nested estimate" if details["ensemble_is_nested"] else "equal weights"
    interval = "95 % interval"
    cards = [
        (f"Best cell, {title}", f"{details['best']:.4f}", f"{best}; {interval} {intervals[best]}"),
        (f"Ensemble, {title}", f"{details['ensemble']:.4f}", f"{weights}; {interval} {intervals[ENSEMBLE]}"),
    ]
    if scored := [entry for entry in results.submissions if entry.public_score]:
        top = max(scored, key=lambda entry: sign_of(metric) * float(entry.public_score))
        cards.append(("Kaggle, public leaderboard", top.public_score, f"best so far: {top.message}"))
    if estimate := details["leaderboard_estimate"]:
        low, high, known = estimate["low"], estimate["high"], estimate["known_share"]
        note = f"95 % interval {low:.4f}–{high:.4f}; {known:.1%} of the labels known; not a score from Kaggle"
        cards.append(("Leaderboard, estimated", f"{estimate['accuracy']:.4f}", note))
    if test := details["models"][ENSEMBLE].get("test"):
        note = f"ensemble, {test['rows']:,} rows used for nothing else"
        cards.append((f"Test part, {title}", f"{test[metric]:.4f}", note))
    return cards


def _list_pretrained(results: TaskResults) -> list[Table]:
    if not results.details["pretraining"]:
        return []
    cells = pd.DataFrame.from_dict(results.details["pretraining"], orient="index").rename_axis("cell").reset_index()
    cells = cells.rename(columns={"unigram_perplexity": "of a unigram model"})
    caption = "On texts held out: the perplexity of a word, and the accuracy of the corpus' labels if it has any."
    return [Table("pretraining", caption, _to_texts(cells))]


def _list_models(results: TaskResults, intervals: Mapping[str, str]) -> Table:
    details, group = results.details, results.task.group_name
    scored = [entry for entry in results.submissions if entry.ensemble_sha256 == details["ensemble_sha256"]]
    earned = next((entry.public_score for entry in reversed(scored) if entry.public_score), None)
    metric = details["metric"]
    others = [name for name in details["models"][ENSEMBLE]["out_of_fold"] if name not in {*NOT_SHOWN, metric}]
    kinds, lines = [], []
    for model in results.predictions:
        own, is_best, is_ensemble = details["models"][model], model == details["best_cell"], model == ENSEMBLE
        scores, folds = own["out_of_fold"], results.models.get(model, {}).get("folds", ())
        kinds.append(ENSEMBLE if is_ensemble else "best" if is_best else "cell")
        lines.append({
            "model": f"{results.task.name} {model}{' (best cell)' if is_best else ''}",
            _title(metric): scores[metric],
            "95 % interval": intervals[model],
            **({f"by {group}": scores["group_accuracy"]} if "group_accuracy" in scores else {}),
            **{_title(name): scores[name] for name in others},
            f"test {_title(metric)}": own.get("test", {}).get(metric),
            "Kaggle, public": earned if is_ensemble else None,
            "ensemble weight": details["ensemble_weights"].get(model),
            "best epoch": ", ".join(str(fold["best_epoch"]) for fold in folds),
            "digest": results.digests[model][:8],
        })  # fmt: skip
    caption = (
        f"Intervals are by a bootstrap over each {group}; “by {group}” is the mean of their accuracies. The digest is "
        "the beginning of the tag outputs_sha256 of the model's run in MLflow."
    )
    return Table("models", caption, _to_texts(pd.DataFrame(lines, index=kinds)), in_summary=True)


def _title(metric: str) -> str:
    return TITLES.get(metric, metric.replace("_", " "))


def _to_texts(table: pd.DataFrame, number: str = "{:.4f}") -> pd.DataFrame:
    """Return the cells as texts, without the columns that have nothing to show."""
    texts = table.astype(object).where(table.notna() & (table != ""), NONE)
    texts = texts.map(lambda value: number.format(value) if isinstance(value, float) else str(value))
    return texts.loc[:, (texts != NONE).any()].rename(columns=lambda name: name.replace("_", " "))


def _draw_scores(results: TaskResults) -> list[Figure]:
    name, histories, folds = results.task.name, {}, {}
    for cell, bundles in results.bundles.items():
        histories[cell] = [pd.DataFrame(read_json(folder / "history.json")["epochs"]) for folder in bundles.values()]
        if results.task.kind in CLASSES:
            by_fold = pd.Categorical("fold " + results.predictions[cell]["fold"].astype(str))
            folds[cell] = accuracy_by(results.predictions[cell], by_fold, seed=results.seed)
    drawn = [draw_curves(f"{name}-curves", histories, results.task.metric)]
    if results.task.kind not in CLASSES:
        return drawn
    if len(by_fold.categories) > 1:
        drawn.append(draw_kinds(f"{name}-folds", "Accuracy by cell and held-out fold", folds))
    drawn.append(draw_reliability(f"{name}-reliability", results.predictions, ENSEMBLE))
    return [*drawn, _draw_confusion(results, ENSEMBLE)]


def _draw_confusion(results: TaskResults, model: str) -> Figure:
    name, title = f"{results.task.name}-confusion-{model}", f"Confusions of the {model}"
    return draw_confusion(name, title, results.predictions[model], results.task.output_names)


def _score_outputs(results: TaskResults) -> Table:
    """Return a table with a line a label or a number."""
    if results.task.kind not in CLASSES:
        table = _to_texts(score_columns(results.ensembled, results.task).rename(columns=_title))
        return Table("outputs", "The ensemble by column.", table, in_summary=True)
    names, truth, predicted = results.task.output_names, results.ensembled["label"], results.ensembled["predicted"]
    scores = precision_recall_fscore_support(truth, predicted, labels=range(len(names)), zero_division=0)
    columns = dict(zip(("precision", "recall", "F1", "rows"), scores, strict=True))
    return Table("labels", LABELS, _to_texts(pd.DataFrame({"label": names, **columns})), in_summary=True)


def _draw_errors(results: TaskResults, placed: pd.DataFrame | None) -> list[Figure]:
    table, tokenize = results.ensembled, get_tokenizer(results.config.text)
    rows = [tokenize(text) or [""] for text in table["text"]]
    bundles = next(iter(results.bundles.values()))
    vocabularies = {fold: load_bundle(folder).vocabulary for fold, folder in bundles.items()}
    ids = [vocabularies[fold].encode(row) for fold, row in zip(table["fold"], rows, strict=True)]
    shares, names = [(row == UNKNOWN_ID).mean() for row in ids], ["none", "up to ¼", "up to ½", "more"]
    unit, borders = ("letters", (1, 4, 5, 6, 7, 8, 10)) if results.reads_letters else ("words", (1, 2, 3, 5, 10, 20))
    kinds = {
        f"by number of {unit}": analysis.by_range(np.array([len(row) for row in rows]), borders),
        f"by share of unknown {unit}": pd.cut(shares, [-1, 0, 0.25, 0.5, 1], labels=names),
    }
    if not results.reads_letters:
        kinds["by negation (not, never) and contrast (but)"] = analysis.by_turn(rows)
    if placed is not None:
        depths = analysis.measure_depths(placed)
        kinds["by depth: number of phrases that contain it"] = analysis.by_range(depths, (0, 1, 2, 3, 5, 8))
    panels = {title: accuracy_by(table, kind, seed=results.seed) for title, kind in kinds.items()}
    panels = {title: panel for title, panel in panels.items() if len(panel) > 1}
    return [draw_kinds(f"{results.task.name}-kinds", "Accuracy by kind of row", panels)] if panels else []


def _list_errors(results: TaskResults) -> list[Table]:
    names, table = results.task.output_names, results.ensembled
    found = (
        analysis.list_confusions(table, names, most=EXAMPLES, examples=3),
        analysis.list_mistakes(table, names, most=EXAMPLES),
        analysis.list_doubtful_labels(table, results.training, names, most=EXAMPLES),
    )
    tables = zip(ERRORS.items(), found, strict=True)
    return [Table(name, caption, _to_texts(cells, "{:.1%}")) for (name, caption), cells in tables if len(cells)]


def _list_largest_errors(results: TaskResults) -> list[Table]:
    """Return the rows of each column whose prediction is farthest from the truth."""
    tables: list[Table] = []
    for column, errors in analysis.list_largest_errors(results.ensembled, results.task, most=EXAMPLES).items():
        tables.append(Table(f"errors-{len(tables)}", f"{column}: the largest errors.", _to_texts(errors)))
    return tables


def _list_submissions(results: TaskResults) -> list[Table]:
    if not results.submissions:
        return []
    table = pd.DataFrame([asdict(entry) for entry in results.submissions])
    table.insert(8, "gap", ["" if entry.gap is None else f"{entry.gap:+.4f}" for entry in results.submissions])
    table[LEDGER_IDS] = table[LEDGER_IDS].apply(lambda column: column.str[:8])
    cells = _to_texts(table[::-1].drop(columns=["task", "competition", "mlflow_has_score"]))
    return [Table("submissions", "Newest first. The gap is the public score less the out-of-fold one.", cells)]


def make_lessons(predictions: Sequence[Mapping[str, Any]]) -> Chapter:
    """Return the chapter of the lessons on "hihell", given cell, lesson, epoch, loss and text of every epoch."""
    lines = []
    for (cell, lesson), group in groupby(predictions, key=lambda line: (line["cell"], line["lesson"])):
        epochs = list(group)
        changed = [next(same) for _, same in groupby(epochs, key=lambda line: line["text"])]
        shown = changed if len(changed) <= STEPS else [*changed[: STEPS // 2], *changed[-STEPS // 2 :]]
        steps = " → ".join(f"{line['epoch']} {line['text']}" for line in shown)
        lines.append([cell, lesson.replace("_", " "), epochs[-1]["loss"], steps])
    cells = _to_texts(pd.DataFrame(lines, columns=["cell", "lesson", "last loss", "epoch and prediction"]))
    table = Table("lessons", "The prediction for “hihell” at the epochs where it changes.", cells)
    text = "Three introductory lessons: each cell learns to predict the next letter of “hihello”."
    return Chapter("hello", "“hihell” → “ihello”", sections=[Section("lessons", text, tables=[table])])
