from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unroll.core.errors import UnrollError
from unroll.text.batches import iterate_batches, plan_batches
from unroll.text.corpus import Corpus, build_corpus, load_corpus
from unroll.text.spans import place_rows
from unroll.text.vocabulary import UNKNOWN, Vocabulary, build_vocabulary

WORDS = st.sampled_from(["a", "b", "c"])
ROWS = st.lists(st.tuples(st.lists(WORDS, max_size=6), st.sampled_from(["g", "h"])), min_size=1, max_size=20)


@given(ROWS, st.booleans())
def test_every_row_is_a_span_of_a_sequence_of_its_own_group(rows: list[tuple[list[str], str]], grouped: bool) -> None:
    texts, groups = [text for text, _ in rows], [group for _, group in rows]
    sequences, spans = place_rows(texts, groups if grouped else None)
    owner: dict[int, str] = {}
    for row, (text, group) in enumerate(rows):
        sequence = int(spans.sequence[row])
        assert sequences[sequence][spans.start[row] : spans.end[row]] == (text or [UNKNOWN])
        assert spans.start[row] < spans.end[row] <= len(sequences[sequence])
        if grouped:
            assert owner.setdefault(sequence, group) == group
    if not grouped:
        assert sequences == [text or [UNKNOWN] for text in texts]


def test_phrases_become_spans_of_their_sentence_and_strangers_sequences_of_their_own() -> None:
    rows = ["a b a c", "a c", "b", "c a", "a b a c"]
    sequences, spans = place_rows([row.split() for row in rows], ["1", "1", "1", "1", "2"])
    assert [" ".join(sequence) for sequence in sequences] == ["a b a c", "c a", "a b a c"]
    assert spans.sequence.tolist() == [0, 0, 0, 1, 2]
    assert spans.start.tolist() == [0, 2, 1, 0, 0]
    assert spans.end.tolist() == [4, 4, 2, 2, 4]


def make_corpus(rows: list[tuple[list[str], str]]) -> Corpus:
    sequences, spans = place_rows([text for text, _ in rows], [group for _, group in rows])
    numbers = np.arange(len(rows))
    return build_corpus(build_vocabulary(sequences), sequences, np.zeros(len(sequences), int), spans, numbers, numbers)


@given(ROWS, st.integers(1, 5), st.none() | st.integers(0, 9), st.integers(1, 3))
@settings(deadline=None)
def test_batches_hold_each_row_once_with_its_own_tokens(
    rows: list[tuple[list[str], str]], batch_size: int, seed: int | None, step: int
) -> None:
    corpus = make_corpus(rows)
    chosen = np.arange(0, len(corpus), step)
    generator = None if seed is None else np.random.default_rng(seed)
    seen = []
    for batch in iterate_batches(corpus, chosen, batch_size, generator):
        assert 0 < len(batch.tokens) <= batch_size
        for sequence, start, end, label, span in zip(
            batch.sequence, batch.start, batch.end, batch.labels, batch.spans, strict=True
        ):
            row = int(corpus.row_ids[span])
            assert row == int(label)
            words = batch.tokens[sequence, start:end].tolist()
            vocabulary = build_vocabulary(place_rows([t for t, _ in rows], [g for _, g in rows])[0])
            assert words == vocabulary.encode(rows[row][0] or [UNKNOWN]).tolist()
            seen.append(int(span))
    assert sorted(seen) == sorted(corpus.spans_of(chosen).tolist())


def test_batches_are_shuffled_by_the_generator_alone() -> None:
    corpus = make_corpus([([letter], "g") for letter in "abc" * 20])

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
    for name in ("tokens", "offsets", "folds", "span_offsets", "starts", "ends", "labels", "row_ids"):
        assert (getattr(opened, name) == getattr(corpus, name)).all()


def test_a_damaged_corpus_is_refused_with_the_files_name(
    tmp_path: Path, small_corpus: tuple[Corpus, Vocabulary]
) -> None:
    corpus, _ = small_corpus
    corpus.save(tmp_path)
    path = tmp_path / "labels.npy"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UnrollError, match=r"labels.npy: not a whole array file"):
        load_corpus(tmp_path)
    np.save(path, corpus.labels[1:])
    with pytest.raises(UnrollError, match="do not fit each other"):
        load_corpus(tmp_path)
    path.unlink()
    with pytest.raises(UnrollError, match=r"labels.npy"):
        load_corpus(tmp_path)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=40), st.integers(1, 6), st.none() | st.integers(0, 9))
def test_batches_are_of_one_length_and_as_few_as_can_be(lengths: list[int], size: int, seed: int | None) -> None:
    generator = None if seed is None else np.random.default_rng(seed)
    chunks = plan_batches(np.array(lengths), size, generator)
    assert all(len({lengths[number] for number in chunk}) == 1 for chunk in chunks)
    assert len(chunks) == sum(-(-count // size) for count in Counter(lengths).values())
