"""What is measured: the sentiment task's files as corpora of both contexts, and the same with fresh words."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from tests.support.definitions import load_task
from unroll.core.settings import TaskConfig, TextConfig
from unroll.data.rows import read_rows
from unroll.text.corpus import TEST_FOLD, Corpus
from unroll.text.encode import encode_rows
from unroll.text.vectors import join_vectors, load_vectors
from unroll.text.vocabulary import Vocabulary

TASK = load_task("sentiment")


@dataclass(frozen=True)
class TrainingData:
    """A corpus, its vocabulary, and the numbers of its training and held-out sequences."""

    corpus: Corpus
    vocabulary: Vocabulary
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def read(data: Path, config: TaskConfig, seed: int) -> pd.DataFrame:
    """Read the task's files."""
    split = config.split
    return read_rows(TASK, data / TASK.folder, folds=split.folds, test_share=split.test_share, seed=seed)[1]


def tokenize(
    rows: pd.DataFrame, config: TaskConfig, context: Literal["sentence", "phrase"], fold: int = 0
) -> TrainingData:
    """Cut rows into tokens and number those of the training part; `fold` is held out."""
    encoded = encode_rows([rows.to_dict("list")], config.text.model_copy(update={"context": context}))
    vocabulary = encoded.build_vocabulary()
    return split(encoded.with_vocabulary(vocabulary), vocabulary, fold)


def split(corpus: Corpus, vocabulary: Vocabulary, fold: int = 0) -> TrainingData:
    """Hold a fold of a corpus out."""
    folds = corpus.folds
    train = np.flatnonzero((folds != fold) & (folds != TEST_FOLD))
    return TrainingData(corpus, vocabulary, train, np.flatnonzero(folds == fold), np.flatnonzero(folds == TEST_FOLD))


def load_words(config: TextConfig, vocabulary: Vocabulary, cache: Path) -> np.ndarray | None:
    """Return what words begin from, (V, size), NaN rows for words without it; None where nothing is wanted."""
    if not config.vectors:
        return None
    return join_vectors([load_vectors(name, vocabulary, cache) for name in config.vectors])


def repeat(rows: pd.DataFrame, times: int) -> pd.DataFrame:
    """Repeat the training rows under fresh group numbers, each copy with words of its own."""
    train = rows[rows["part"] == "train"]
    copies = []
    for number in range(times):
        copy = train.copy()
        if number:
            copy["text"] = [" ".join(f"{word}{number}" for word in text.split()) for text in copy["text"]]
            copy["group"] = copy["group"] + f"-{number}"
        copies.append(copy)
    rows = pd.concat(copies, ignore_index=True)
    rows["row_id"] = np.arange(len(rows))
    return rows
