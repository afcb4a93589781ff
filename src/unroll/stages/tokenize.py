"""Stage tokenize: rows as ragged arrays of token numbers, with the vocabulary that gives the numbers."""

import sys

import numpy as np

from unroll.core import paths
from unroll.core.errors import run_program
from unroll.core.files import new_folder, write_json, write_manifest
from unroll.core.params import read_config
from unroll.data.competition import load_competition
from unroll.text.corpus_writer import draft_corpus, finish_corpus
from unroll.text.lexicons import fetch_vectors
from unroll.text.vectors import join_vectors, load_vectors
from unroll.text.vocabulary import number_tokens


def main(task_name: str) -> None:
    """Write data/corpus/<task>/: arrays, vocabulary.json and, where they are wanted, vectors.npy."""
    config, task = read_config(paths.PARAMS), load_competition(paths.competition(task_name))
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
