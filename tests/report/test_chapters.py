"""The report of small tasks: parts without anything to show are left out, and the rest is there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.definitions import load_task
from unroll.core.files import write_json
from unroll.core.settings import Config, ModelConfig
from unroll.data.rows import predictions_table
from unroll.evaluation.comparison import join_predictions
from unroll.evaluation.error_analysis import add_outcomes
from unroll.kaggle.ledger import Entry
from unroll.models.bundle import Bundle, save_bundle
from unroll.models.span_classifier import SpanClassifier
from unroll.report.chapters import make_chapter, make_lessons
from unroll.report.page import Chapter, render
from unroll.report.results import ENSEMBLE, TaskResults
from unroll.text.vocabulary import UNKNOWN, Vocabulary

VOCABULARY = Vocabulary((UNKNOWN, "a", "bad", "film", "good", "not"))
SCORES = {"accuracy": 0.5, "macro_f1": 0.5, "log_loss": 1.0, "group_accuracy": 0.5}


def make_results(
    folder: Path,
    config: Config,
    model: ModelConfig,
    task: str,
    texts: list[str],
    *,
    folds: int = 1,
    correct: bool = False,
) -> TaskResults:
    """Results of a task whose rows are the texts, each in a group of its own, with one cell."""
    competition, settings, count = load_task(task), config.task[task], len(texts)
    size, column = len(competition.outputs), f"true:{competition.target.columns[0]}"
    labels, names = np.arange(count) % size, [str(number) for number in range(count)]
    rows = pd.DataFrame(
        {"row_id": range(count), "id": names, "group": names, "text": texts, column: labels.astype(float)}
    )
    probabilities = np.random.default_rng(1).dirichlet(np.ones(size), count)
    if correct:
        probabilities = np.eye(size)[labels] * 0.9 + 0.1 / size
    table = rows[["row_id"]].assign(fold=np.arange(count) % folds).join(predictions_table(probabilities, competition))
    predictions = add_outcomes(join_predictions(table, rows), competition)
    rows = rows.assign(label=labels)
    bundles = {"GRU": {fold: folder / f"fold-{fold}" for fold in range(folds)}}
    for bundle in bundles["GRU"].values():
        bundle.mkdir()
        network = SpanClassifier("GRU", model, len(VOCABULARY), size)
        description = (task, "GRU", competition.kind, competition.outputs, settings.text, model, VOCABULARY, network)
        save_bundle(bundle, Bundle(*description))
        write_json(bundle / "history.json", {"epochs": [{"epoch": 1, "valid_accuracy": 0.5}]})
    details = {
        "metric": "accuracy", "best_cell": "GRU", "best": 0.5, "ensemble": 0.5, "ensemble_weights": {"GRU": 1.0},
        "ensemble_is_nested": False, "ensemble_sha256": "e", "leaderboard_estimate": None, "pretraining": {},
        "models": {name: {"out_of_fold": SCORES} for name in ("GRU", ENSEMBLE)},
    }  # fmt: skip
    return TaskResults(
        competition, settings, 1, rows, details, {"GRU": predictions, ENSEMBLE: predictions},
        {"GRU": {"digest": "g", "folds": [{"best_epoch": 1}]}}, bundles, [], [("Rows", str(count))],
    )  # fmt: skip


def render_both(chapter: Chapter) -> str:
    page, summary = (render(name, [chapter], [("Code", "x")]) for name in ("page.html", "summary.md"))
    assert summary.count("## ") == 1
    assert "| sentiment GRU (best cell) |" in summary or "| surnames GRU (best cell) |" in summary
    return page


def names(chapter: Chapter) -> list[str]:
    return [section.name for section in chapter.sections]


def test_short_rows_that_are_each_a_group(tmp_path: Path, config: Config, small_model: ModelConfig) -> None:
    texts = [f"{word} film" for word in ("good", "bad", "not", "a") for _ in range(30)]
    chapter = make_chapter(make_results(tmp_path, config, small_model, "sentiment", texts))
    assert names(chapter) == ["models", "scores", "errors"]
    assert [figure.name for figure in chapter.figures] == [
        "sentiment-curves", "sentiment-reliability", "sentiment-confusion-ensemble", "sentiment-kinds",
        "sentiment-confusion-GRU",
    ]  # fmt: skip
    page = render_both(chapter)
    assert 'id="sentiment-errors"' in page
    assert "sentiment-trees" not in page


def test_pretrained_models_are_listed_with_their_perplexity(
    tmp_path: Path, config: Config, small_model: ModelConfig
) -> None:
    results = make_results(tmp_path, config, small_model, "surnames", ["Adami", "Banfi"] * 60)
    scores = {"corpus": "names", "perplexity": 9.25, "unigram_perplexity": 21.5}
    pretraining = {"GRU": scores, "LSTM": {**scores, "label_accuracy": 0.75}}
    chapter = make_chapter(replace(results, details={**results.details, "pretraining": pretraining}))
    (section,) = (section for section in chapter.sections if section.name == "pretraining")
    (table,) = section.tables
    assert table.cells.to_numpy().tolist() == [
        ["GRU", "names", "9.2500", "21.5000", "–"], ["LSTM", "names", "9.2500", "21.5000", "0.7500"]
    ]  # fmt: skip
    assert "of a unigram model" in render_both(chapter)


def test_a_perfect_model_of_equal_texts_has_no_errors_to_show(
    tmp_path: Path, config: Config, small_model: ModelConfig
) -> None:
    results = make_results(tmp_path, config, small_model, "sentiment", ["good film"] * 120, folds=2, correct=True)
    chapter = make_chapter(results)
    assert names(chapter) == ["models", "scores"]
    assert "sentiment-folds" in [figure.name for figure in chapter.figures]
    render_both(chapter)


def test_names_without_a_readable_one_and_with_some(tmp_path: Path, config: Config, small_model: ModelConfig) -> None:
    for place, (texts, shown) in enumerate(((["Li", "Ó 'B"] * 60, False), (["Adami", "Banfi"] * 60, True))):
        (tmp_path / str(place)).mkdir()
        chapter = make_chapter(make_results(tmp_path / str(place), config, small_model, "surnames", texts))
        assert ("letters" in names(chapter)) == shown
        assert any("gates" in figure.name for figure in chapter.figures) == shown
        render_both(chapter)


def test_sentences_are_drawn_with_the_phrases_inside_them(
    tmp_path: Path, config: Config, small_model: ModelConfig
) -> None:
    sentence = "a good film but not a bad film"
    phrases = [sentence, "a good film", "good film", "good", "not a bad film", "bad film", "bad"]
    results = make_results(tmp_path, config, small_model, "sentiment", phrases)
    results.ensembled["group"] = "1"
    chapter = make_chapter(results)
    (tree,) = (section for section in chapter.sections if section.name == "trees")
    assert [figure.title for figure in tree.figures] == [f"“{sentence}”"]
    assert "of 7 phrases are correct" in tree.figures[0].alt


def test_models_and_submissions_are_listed(tmp_path: Path, config: Config, small_model: ModelConfig) -> None:
    results = make_results(tmp_path, config, small_model, "sentiment", ["good film", "bad film"] * 60)
    sent = [
        Entry(submitted="2026-01-03T03:04:05", status="complete", public_score="0.62", out_of_fold="0.5", message="one",
              ensemble_sha256="e"),
        Entry(submitted="2026-01-04T03:04:05", status="pending", out_of_fold="0.5", message="two"),
    ]  # fmt: skip
    chapter = make_chapter(replace(results, submissions=sent))
    table = next(table.cells for section in chapter.sections for table in section.tables if table.name == "models")
    assert table.index.tolist() == ["best", "ensemble"]
    assert table["model"].tolist() == ["sentiment GRU (best cell)", "sentiment ensemble"]
    assert table["digest"].tolist() == ["g", "e"]
    assert table["Kaggle, public"].tolist() == ["–", "0.62"]
    assert table["accuracy"].tolist() == ["0.5000", "0.5000"]
    (section,) = (section for section in chapter.sections if section.name == "submissions")
    cells = section.tables[0].cells
    assert cells["message"].tolist() == ["two", "one"]
    assert cells["gap"].tolist() == ["–", "+0.1200"]
    assert "private score" not in cells
    assert ("Kaggle, public leaderboard", "0.62", "best so far: one") in chapter.cards
    render_both(chapter)


@pytest.mark.parametrize("epochs", [1, 40])
def test_lessons_show_the_epochs_where_the_prediction_changes(epochs: int) -> None:
    said = [
        {"cell": "RNN", "lesson": "step_by_step", "epoch": epoch, "loss": 1 / epoch, "text": str(epoch // 2)}
        for epoch in range(1, epochs + 1)
    ]
    (section,) = make_lessons(said).sections
    ((cell, lesson, loss, steps),) = section.tables[0].cells.to_numpy().tolist()
    assert (cell, lesson, loss) == ("RNN", "step by step", f"{1 / epochs:.4f}")
    expected = {1: "1 0", 40: "1 0 → 2 1 → 4 2 → 6 3 → 8 4 → 10 5 → 30 15 → 32 16 → 34 17 → 36 18 → 38 19 → 40 20"}
    assert steps == expected[epochs]
