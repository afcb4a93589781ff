"""TF-IDF with a linear model on a task's own folds and metric: what a recurrent model has to beat.

    python -m benchmarks.baseline spooky

It reads the table of rows of a project where the task was prepared, and holds out the folds of `split.run_folds`.
"""

import sys
import warnings

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from unroll.core import paths
from unroll.core.params import read_config
from unroll.data.competition import CLASSES, Competition
from unroll.data.rows import TRAIN, load_task, predictions_table, truth_of
from unroll.evaluation.comparison import score_table


def predict(task: Competition, train: csr_matrix, truth: np.ndarray, held_out: csr_matrix) -> np.ndarray:
    """Return predictions of the rows held out, (R, P), by a linear model of TF-IDF features."""
    if task.kind == "number":
        found: np.ndarray = Ridge(alpha=1.0).fit(train, truth).predict(held_out).reshape(-1, truth.shape[1])
        return found
    if task.kind in CLASSES:
        model = LogisticRegression(C=4.0, max_iter=1000).fit(train, truth[:, 0])
        probabilities = np.zeros((held_out.shape[0], len(task.outputs)))
        probabilities[:, model.classes_.astype(int)] = model.predict_proba(held_out)
        return probabilities
    columns = []
    for labels in truth.T:
        if len(np.unique(labels)) == 1:
            columns.append(np.full(held_out.shape[0], labels[0]))
        else:
            columns.append(LogisticRegression(C=4.0, max_iter=1000).fit(train, labels).predict_proba(held_out)[:, 1])
    return np.stack(columns, axis=1)


def main(name: str) -> None:
    """Print the baseline's out-of-fold scores."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    task = load_task(paths.competition(name), paths.rows(name))
    rows = pd.read_parquet(paths.rows(name))
    rows = rows[rows["part"] == TRAIN]
    tables = []
    for fold in read_config(paths.PARAMS).task[name].split.run_folds:
        train, held_out = rows[rows["fold"] != fold], rows[rows["fold"] == fold]
        letters = {"analyzer": "char_wb", "ngram_range": (2, 4)} if train["text"].str.len().mean() < 12 else {}
        features = TfidfVectorizer(**{"ngram_range": (1, 2), "min_df": 2, "sublinear_tf": True, **letters})
        known = features.fit_transform(train["text"])
        found = predict(task, known, truth_of(train, task), features.transform(held_out["text"]))
        tables.append(held_out.reset_index(drop=True).join(predictions_table(found, task)))
    scores = score_table(pd.concat(tables, ignore_index=True), task)
    print(f"{name}, TF-IDF and a linear model: " + ", ".join(f"{key} {value:.4f}" for key, value in scores.items()))


if __name__ == "__main__":
    main(sys.argv[1])
