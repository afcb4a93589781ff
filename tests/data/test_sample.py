"""The committed sample: its own rules, and that word order matters in it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from tests.support.definitions import load_task
from unroll.core.settings import Config
from unroll.data.rows import TRAIN, read_rows
from unroll.models.span_classifier import SpanClassifier
from unroll.text.encode import encode_rows
from unroll.training.fit import fit

SAMPLE = Path(__file__).parents[2] / "data/sample"
TASK = load_task("sentiment")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return read_rows(TASK, SAMPLE / TASK.folder, folds=5, test_share=0.0, seed=1)


def test_it_is_small_and_large_enough(rows: pd.DataFrame) -> None:
    sentences = rows.groupby("part")["group"].nunique()
    assert sentences["train"] >= 400
    assert sentences["test"] >= 120
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file()) < 1_000_000
    names = read_rows(load_task("surnames"), SAMPLE / "surnames", folds=2, test_share=0.0, seed=1)
    assert (names.groupby("label")["group"].nunique() >= 60).all()
    assert names["label"].nunique() == 18


def test_every_phrase_stands_in_its_sentence_and_has_one_label(rows: pd.DataFrame) -> None:
    first = rows.groupby("group")["text"].transform("first")
    inside = [f" {text} " in f" {sentence} " for text, sentence in zip(rows["text"], first, strict=True)]
    assert all(inside)
    assert (rows[rows["part"] == TRAIN].groupby("text")["label"].nunique() == 1).all()


def test_the_script_writes_the_committed_files(tmp_path: Path) -> None:
    subprocess.run([sys.executable, SAMPLE / "make_sentences.py", "--out", tmp_path], check=True, capture_output=True)
    made = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert made == {path.name: path.read_bytes() for path in (SAMPLE / TASK.folder).iterdir()}


@pytest.mark.slow
def test_an_lstm_with_the_default_settings_beats_a_bag_of_words(rows: pd.DataFrame, config: Config) -> None:
    rows = rows[rows["part"] == TRAIN]
    kept_back = (rows["fold"] == 0).to_numpy()
    labels = rows["label"].to_numpy()
    bag = CountVectorizer(token_pattern=r"\S+")
    counts = bag.fit_transform(rows["text"][~kept_back])
    best = max(
        LogisticRegression(C=strength, max_iter=2000)
        .fit(counts, labels[~kept_back])
        .score(bag.transform(rows["text"][kept_back]), labels[kept_back])
        for strength in (1, 10)
    )

    settings = config.task["sentiment"]
    encoded = encode_rows([rows.to_dict("list")], settings.text)
    vocabulary = encoded.build_vocabulary()
    corpus, folds = encoded.with_vocabulary(vocabulary), encoded.corpus.folds
    torch.set_num_threads(2)
    model = SpanClassifier("LSTM", settings.model, len(vocabulary), 5)
    train, valid = np.flatnonzero(folds != 0), np.flatnonzero(folds == 0)
    history = fit(model, corpus, train, valid, settings.train, seed=1, quiet=True)
    assert history.epochs[-1].valid_accuracy > best + 0.03
