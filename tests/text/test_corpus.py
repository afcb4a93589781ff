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
    for batch in iterate_batches(corpus, chosen, batch_size, 1000, generator):
        assert 0 < len(batch.tokens) <= batch_size
        for sequence, start, end, label, span in zip(
            batch.sequence, batch.start, batch.end, batch.targets[:, 0], batch.spans, strict=True
        ):
            row = int(corpus.row_ids[span])
            assert row == int(label)
            words = batch.tokens[sequence, start:end].tolist()
            assert end <= (len(batch.tokens[0]) if batch.lengths is None else batch.lengths[sequence])
            assert words == vocabulary.encode(rows[row][0].split() or [UNKNOWN]).tolist()
            seen.append(int(span))
    assert sorted(seen) == sorted(corpus.spans_of(chosen).tolist())


def test_batches_are_shuffled_by_the_generator_alone(text: TextConfig) -> None:
    corpus, _ = make_corpus([(f"{letter}{number}", "g") for number in range(20) for letter in "abc"], text)

    def order(seed: int) -> list[int]:
        batches = iterate_batches(corpus, np.arange(len(corpus)), 1, 1000, np.random.default_rng(seed))
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


@given(
    st.lists(st.integers(1, 5) | st.integers(30, 700), min_size=1, max_size=60),
    st.integers(1, 6), st.integers(1, 900), st.none() | st.integers(0, 9),
)  # fmt: skip
def test_batches_are_of_similar_lengths_and_within_their_limits(
    lengths: list[int], size: int, tokens: int, seed: int | None
) -> None:
    generator = None if seed is None else np.random.default_rng(seed)
    chunks = plan_batches(np.array(lengths), size, tokens, generator)
    assert sorted(np.concatenate(chunks).tolist()) == list(range(len(lengths)))
    for chunk in chunks:
        longest = max(lengths[number] for number in chunk)
        assert len(chunk) <= size
        assert len(chunk) == 1 or len(chunk) * longest <= tokens
    assert len(chunks) == len(plan_batches(np.array(lengths), size, tokens)), "a schedule is for so many steps"
    assert (
        plan_batches(np.array(lengths), len(lengths), 10**6)[0].tolist()
        == np.argsort(
            [-(-each // step) * step for each in lengths for step in [max(1, 2 ** (each.bit_length() - 5))]],
            kind="stable",
        ).tolist()
    )


def test_little_of_a_batch_is_padding() -> None:
    lengths = np.random.default_rng(1).integers(1, 600, 5000)
    chunks = plan_batches(lengths, 32, 8192, np.random.default_rng(2))
    padded = sum(len(chunk) * lengths[chunk].max() for chunk in chunks)
    assert padded < 1.05 * lengths.sum()
    assert len(chunks) < 1.3 * lengths.sum() / 8192 + len(lengths) / 32
