"""Stage tokenize: rows as ragged arrays of token numbers, with the vocabulary that gives the numbers."""

import numpy as np

from unroll.core import paths
from unroll.core.errors import run_stage
from unroll.core.files import new_output, write_json
from unroll.core.params import read_config
from unroll.data.rows import load_task
from unroll.text.corpus import TEST_FOLD
from unroll.text.encode import encode_rows, read_batches
from unroll.text.vectors import extend_vocabulary
from unroll.text.vocabulary import UNKNOWN_ID


def main(task_name: str) -> None:
    """Write data/corpus/<task>/tokens/: arrays, vocabulary.json and, if text.vectors names any, vectors.npy."""
    config, task = read_config(paths.PARAMS), load_task(paths.competition(task_name), paths.rows(task_name))
    text = config.task[task.name].text
    encoded = encode_rows(read_batches(paths.rows(task.name)), text)
    vocabulary = encoded.build_vocabulary(text.min_count, text.max_size)
    with new_output(paths.corpus(task.name)) as scratch:
        if text.vectors:
            vocabulary, vectors = extend_vocabulary(vocabulary, encoded.tokens, text.vectors, paths.VECTOR_CACHE)
            np.save(scratch / "vectors.npy", vectors)
            found = np.isfinite(vectors).all(1).sum()
            print(f"{task.name}: {found:,} of {len(vocabulary):,} tokens have a vector in {', '.join(text.vectors)}")
        corpus = encoded.with_vocabulary(vocabulary)
        corpus.save(scratch)
        write_json(scratch / "vocabulary.json", vocabulary.tokens)

    if text.max_tokens is not None:
        lengths = np.diff(corpus.offsets)
        print(
            f"{task.name}: {(lengths >= text.max_tokens).mean():.1%} of the texts are as long as text.max_tokens or cut"
        )
    test = corpus.tokens_of(np.flatnonzero(corpus.folds == TEST_FOLD))
    unknown = f", {(test == UNKNOWN_ID).mean():.1%} of the test tokens are unknown" if len(test) else ""
    print(
        f"{task.name}: {len(corpus.row_ids):,} rows in {len(corpus):,} sequences of {len(corpus.tokens):,} tokens, "
        f"vocabulary of {len(vocabulary):,}{unknown}"
    )


if __name__ == "__main__":
    run_stage(main)
