"""Stage tokenize: rows as ragged arrays of token numbers, with the vocabulary that gives the numbers."""

import sys

import numpy as np

from unroll import paths
from unroll.config import read_config
from unroll.errors import run_program
from unroll.files import new_folder, write_json, write_manifest
from unroll.ondisk import draft_corpus, finish_corpus
from unroll.tasks import load_task
from unroll.text import join_vectors, load_vectors, number_tokens
from unroll.vectors import fetch_vectors


def main(task_name: str) -> None:
    """Write data/corpus/<task>/: arrays, vocabulary.json and, where they are wanted, vectors.npy."""
    config, task = read_config(paths.PARAMS), load_task(task_name)
    text = config.task[task.name].text
    with new_folder(paths.corpus(task.name)) as scratch:
        draft = draft_corpus(paths.rows(task.name), scratch, text)
        vocabulary = number_tokens(draft.counts, text.min_count, text.max_size)
        if text.vectors:
            # A word that has a vector is known by it, wherever it stands.
            everything = vocabulary.extend(draft.tokens)
            files = [fetch_vectors(name, paths.VECTOR_CACHE) for name in text.vectors]
            vectors = join_vectors([load_vectors(file, everything, paths.VECTOR_CACHE) for file in files])
            has_vector = np.isfinite(vectors).all(1)
            kept = has_vector | (np.arange(len(everything)) < len(vocabulary))
            vocabulary = everything.restrict(kept)[0]
            np.save(scratch / "vectors.npy", vectors[kept])
            named = ", ".join(text.vectors)
            print(f"{task.name}: {has_vector.sum():,} of {len(vocabulary):,} tokens have a vector in {named}")
        numbers = vocabulary.encode(draft.tokens)
        finish_corpus(draft, numbers)
        write_json(scratch / "vocabulary.json", vocabulary.tokens)
        write_manifest(scratch)

    share = draft.unknown_share(numbers)
    unknown = f", {share:.1%} of the test tokens are unknown" if share is not None else ""
    print(
        f"{task.name}: {draft.rows:,} rows in {draft.sequences:,} sequences of {draft.size:,} tokens, "
        f"vocabulary of {len(vocabulary):,}{unknown}"
    )


if __name__ == "__main__":
    run_program(lambda: main(*sys.argv[1:]))
