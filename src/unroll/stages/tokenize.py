"""Stage tokenize: rows as ragged arrays of token numbers, with the vocabulary that gives the numbers."""

import sys

import numpy as np
import pandas as pd

from unroll import paths
from unroll.config import read_config
from unroll.corpus import TEST_FOLD, build_corpus, cut_rows
from unroll.errors import run_program
from unroll.files import new_folder, write_json, write_manifest
from unroll.tasks import load_task
from unroll.text import UNKNOWN_ID, build_vocabulary, join_vectors, load_vectors
from unroll.vectors import fetch_vectors


def main(task_name: str) -> None:
    """Write data/corpus/<task>/: arrays, vocabulary.json and, where they are wanted, vectors.npy."""
    config, task = read_config(paths.PARAMS), load_task(task_name)
    text = config.task[task.name].text
    rows = pd.read_parquet(paths.rows(task.name))

    sequences, spans, folds = cut_rows(rows, text)
    train = [sequence for sequence, fold in zip(sequences, folds, strict=True) if fold != TEST_FOLD]
    vocabulary = build_vocabulary(train, text.min_count, text.max_size)
    vectors = None
    if text.vectors:
        # A word that has a vector is known by it, wherever it stands.
        everything = vocabulary.extend(token for sequence in sequences for token in sequence)
        files = [fetch_vectors(name, paths.VECTOR_CACHE) for name in text.vectors]
        vectors = join_vectors([load_vectors(file, everything, paths.VECTOR_CACHE) for file in files])
        has_vector = np.isfinite(vectors).all(1)
        kept = has_vector | (np.arange(len(everything)) < len(vocabulary))
        vocabulary, vectors = everything.restrict(kept)[0], vectors[kept]
        named = ", ".join(text.vectors)
        print(f"{task.name}: {has_vector.sum():,} of {len(vocabulary):,} tokens have a vector in {named}")
    corpus = build_corpus(vocabulary, sequences, folds, spans, rows["label"].to_numpy(), rows["row_id"].to_numpy())

    with new_folder(paths.corpus(task.name)) as scratch:
        corpus.save(scratch)
        write_json(scratch / "vocabulary.json", vocabulary.tokens)
        if vectors is not None:
            np.save(scratch / "vectors.npy", vectors)
        write_manifest(scratch)

    test = corpus.tokens_of(np.flatnonzero(folds == TEST_FOLD))
    unknown = f", {(test == UNKNOWN_ID).mean():.1%} of the test tokens are unknown" if len(test) else ""
    print(
        f"{task.name}: {len(rows):,} rows in {len(corpus):,} sequences of {len(corpus.tokens):,} tokens, "
        f"vocabulary of {len(vocabulary):,}{unknown}"
    )


if __name__ == "__main__":
    run_program(lambda: main(*sys.argv[1:]))
