from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unroll.core.errors import UnrollError
from unroll.core.settings import Config, TextConfig
from unroll.text.batches import iterate_batches, plan_batches
from unroll.text.corpus import Corpus, load_corpus
from unroll.text.encode import encode_rows
from unroll.text.vocabulary import UNKNOWN, Vocabulary

ROWS = st.lists(
    st.tuples(st.lists(st.sampled_from("abc"), max_size=6).map(" ".join), st.sampled_from("gh")),
    min_size=1,
    max_size=20,
)


@pytest.fixture(scope="module")
def text(config: Config) -> TextConfig:
    return config.task["sentiment"].text


def make_corpus(rows: list[tuple[str, str]], text: TextConfig) -> tuple[Corpus, Vocabulary]:
    """Make the corpus of texts and their groups; a row's label is its number."""
    numbers = range(len(rows))
    texts, groups = zip(*rows, strict=True)
    columns = {"row_id": numbers, "group": groups, "text": texts, "true:label": numbers, "fold": [0] * len(rows)}
    encoded = encode_rows([columns], text)
    vocabulary = encoded.build_vocabulary()
    return encoded.with_vocabulary(vocabulary), vocabulary


@given(ROWS, st.integers(1, 5), st.none() | st.integers(0, 9), st.integers(1, 3))
@settings(deadline=None)
def test_batches_hold_each_row_once_with_its_own_tokens(
    text: TextConfig, rows: list[tuple[str, str]], batch_size: int, seed: int | None, step: int
) -> None:
    corpus, vocabulary = make_corpus(rows, text)
    chosen = np.arange(0, len(corpus), step)
    generator = None if seed is None else np.random.default_rng(seed)
    seen = []
    for batch in iterate_batches(corpus, chosen, batch_size, generator):
        assert 0 < len(batch.tokens) <= batch_size
        for sequence, start, end, label, span in zip(
            batch.sequence, batch.start, batch.end, batch.targets[:, 0], batch.spans, strict=True
        ):
            row = int(corpus.row_ids[span])
            assert row == int(label)
            words = batch.tokens[sequence, start:end].tolist()
            assert words == vocabulary.encode(rows[row][0].split() or [UNKNOWN]).tolist()
            seen.append(int(span))
    assert sorted(seen) == sorted(corpus.spans_of(chosen).tolist())


def test_batches_are_shuffled_by_the_generator_alone(text: TextConfig) -> None:
    corpus, _ = make_corpus([(f"{letter}{number}", "g") for number in range(20) for letter in "abc"], text)

    def order(seed: int) -> list[int]:
        batches = iterate_batches(corpus, np.arange(len(corpus)), 1, np.random.default_rng(seed))
        return [int(span) for batch in batches for span in batch.spans]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_a_saved_corpus_is_opened_memory_mapped_and_equal(
    tmp_path: Path, small_corpus: tuple[Corpus, Vocabulary]
) -> None:
    corpus, _ = small_corpus
    corpus.save(tmp_path)
    opened = load_corpus(tmp_path)
    assert isinstance(opened.tokens, np.memmap)
    for name in ("tokens", "offsets", "folds", "span_offsets", "starts", "ends", "targets", "row_ids"):
        assert (getattr(opened, name) == getattr(corpus, name)).all()


def test_a_damaged_corpus_is_refused_with_the_files_name(
    tmp_path: Path, small_corpus: tuple[Corpus, Vocabulary]
) -> None:
    corpus, _ = small_corpus
    corpus.save(tmp_path)
    path = tmp_path / "targets.npy"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UnrollError, match=r"targets.npy: damaged"):
        load_corpus(tmp_path)
    np.save(path, corpus.targets[1:])
    with pytest.raises(UnrollError, match="do not fit each other"):
        load_corpus(tmp_path)
    path.unlink()
    with pytest.raises(UnrollError, match=r"targets.npy"):
        load_corpus(tmp_path)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=40), st.integers(1, 6), st.none() | st.integers(0, 9))
def test_batches_are_of_one_length_and_as_few_as_can_be(lengths: list[int], size: int, seed: int | None) -> None:
    generator = None if seed is None else np.random.default_rng(seed)
    chunks = plan_batches(np.array(lengths), size, generator)
    assert all(len({lengths[number] for number in chunk}) == 1 for chunk in chunks)
    assert len(chunks) == sum(-(-count // size) for count in Counter(lengths).values())
