"""The committed sample has the layout of the competitions' files and the properties that its README states."""

from pathlib import Path

import pandas as pd
import pytest

from tests.support.definitions import load_task
from unroll.data.rows import TEST, TRAIN, read_rows
from unroll.data.submission import read_sample

SAMPLE = Path(__file__).parents[2] / "data/sample"
TASK = load_task("sentiment")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    _, rows = read_rows(TASK, SAMPLE / TASK.folder, folds=5, test_share=0.0, seed=1)
    return rows.assign(label=rows["true:Sentiment"])


def test_the_sizes_are_those_of_its_readme(rows: pd.DataFrame) -> None:
    assert rows["part"].value_counts().to_dict() == {"train": 9_768, "test": 2_950}
    assert rows.groupby("part")["group"].nunique().to_dict() == {"train": 500, "test": 150}
    assert len(read_sample(TASK, SAMPLE / TASK.folder, rows.loc[rows["part"] == TEST, "id"])) == 2_950
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file()) < 500_000


def test_labels_are_spread_as_in_the_competition(rows: pd.DataFrame) -> None:
    shares = rows[rows["part"] == TRAIN]["label"].value_counts(normalize=True).sort_index()
    assert shares.round(3).tolist() == [0.049, 0.17, 0.574, 0.152, 0.055]


def test_every_phrase_is_part_of_its_sentence_and_has_one_label(rows: pd.DataFrame) -> None:
    first = rows.groupby("group")["text"].transform("first")
    inside = [f" {text} " in f" {sentence} " for text, sentence in zip(rows["text"], first, strict=True)]
    assert all(inside)
    assert (rows[rows["part"] == TRAIN].groupby("text")["label"].nunique() == 1).all()


def test_word_order_decides(rows: pd.DataFrame) -> None:
    whole = rows[rows["part"] == TRAIN].groupby("group").first()
    pairs = whole.groupby(whole["text"].str.split().map(lambda words: " ".join(sorted(words))))
    assert (pairs["label"].nunique() > 1).sum() >= 60, "of pairs of the same words in another order"


def test_every_language_has_names_enough() -> None:
    _, names = read_rows(load_task("surnames"), SAMPLE / "surnames", folds=2, test_share=0.0, seed=1)
    assert len(names) == 2_456
    assert names["true:Language"].nunique() == 18
    assert (names.groupby("true:Language")["group"].nunique() >= 60).all()
