"""Rows of text as a corpus: where each row lies, and which number each token gets."""

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unroll.core.settings import Config, TextConfig
from unroll.text.corpus import TEST_FOLD
from unroll.text.encode import EncodedRows, SpanAligner, encode_rows, encode_texts, read_batches
from unroll.text.vocabulary import UNKNOWN, UNKNOWN_ID

WORDS = st.lists(st.sampled_from(["a", "b", "c", "Déjà"]), max_size=6).map(" ".join)
ROWS = st.lists(st.tuples(WORDS, st.integers(0, 3)), min_size=1, max_size=30)


def table_of(rows: list[tuple[str, int]]) -> pd.DataFrame:
    """Group 0 is the test part."""
    table = pd.DataFrame(rows, columns=["text", "number"])
    fold = np.where(table["number"] == 0, TEST_FOLD, table["number"] % 2)
    group = table["number"].astype(str)
    more = {"true:label": np.arange(len(rows), dtype=float)}
    return table.assign(fold=fold, group=group, row_id=np.arange(len(rows)) + 10, **more)


def encode(table: pd.DataFrame, text: TextConfig, context: str) -> EncodedRows:
    return encode_rows([table.to_dict("list")], text.model_copy(update={"context": context}))


@pytest.fixture(scope="module")
def text(config: Config) -> TextConfig:
    return config.task["sentiment"].text


@given(ROWS, st.sampled_from(["sentence", "phrase"]))
@settings(deadline=None)
def test_every_row_is_a_span_of_a_sequence_of_its_own_group(
    text: TextConfig, rows: list[tuple[str, int]], context: str
) -> None:
    table = table_of(rows)
    encoded = encode(table, text, context)
    corpus, words = encoded.corpus, np.array(encoded.tokens)
    assert sorted(corpus.row_ids) == table["row_id"].tolist()
    for sequence in range(len(corpus)):
        tokens = words[corpus.tokens_of(np.array([sequence]))]
        spans = corpus.spans_of(np.array([sequence]))
        inside = table.iloc[corpus.row_ids[spans] - 10]
        assert (inside["true:label"] == corpus.targets[spans, 0]).all()
        assert (inside["fold"] == corpus.folds[sequence]).all()
        assert inside["group"].nunique() == 1
        for phrase, start, end in zip(inside["text"], corpus.starts[spans], corpus.ends[spans], strict=True):
            assert tokens[start:end].tolist() == (phrase.lower().split() or [UNKNOWN])
        assert corpus.ends[spans][0] == len(tokens), "the first row of a sequence is all of it"
    if context == "phrase":
        assert len(corpus) == len(rows)


@given(ROWS, st.integers(1, 2), st.none() | st.integers(1, 2))
@settings(deadline=None)
def test_the_vocabulary_is_that_of_the_training_sequences(
    text: TextConfig, rows: list[tuple[str, int]], min_count: int, max_size: int | None
) -> None:
    encoded = encode(table_of(rows), text, "phrase")
    counts = Counter(token for phrase, number in rows if number for token in phrase.lower().split())
    ranked = sorted(counts, key=lambda token: (-counts[token], token))
    vocabulary = encoded.build_vocabulary(min_count, max_size)
    assert vocabulary.tokens == (UNKNOWN, *[token for token in ranked if counts[token] >= min_count][:max_size])
    corpus = encoded.with_vocabulary(vocabulary)
    numbers = [vocabulary.encode(phrase.lower().split() or [UNKNOWN]) for phrase, _ in rows]
    assert corpus.tokens.tolist() == np.concatenate(numbers).tolist()
    assert corpus.tokens.dtype == np.int32


def test_phrases_become_spans_of_their_sentence_and_other_rows_sequences_of_their_own() -> None:
    aligner = SpanAligner()
    rows = [("a bc a d", "1"), ("a d", "1"), ("bc", "1"), ("c", "1"), ("d a", "1"), ("a bc a d", "2"), ("a", None)]
    places = [aligner.place(row.split(), group) for row, group in rows]
    assert places == [(0, 0), (0, 2), (0, 1), (1, 0), (2, 0), (3, 0), (4, 0)]


def test_a_long_text_of_one_word_is_searched_in_linear_time() -> None:
    aligner = SpanAligner()
    long = ["word"] * 300_000
    begin = time.perf_counter()
    assert aligner.place(long, "1") == (0, 0)
    for row in ([*long[1:], "end"], ["start", *long[1:]], [*long[:150_000], "middle", *long[150_001:]]):
        assert aligner.place(row, "1")[1] == 0
    assert aligner.place(["end"], "1") == (1, 299_999)
    assert time.perf_counter() - begin < 20, "a quadratic search takes hours"


def test_a_file_is_read_in_batches_as_the_table_in_memory(text: TextConfig, tmp_path: Path) -> None:
    table = table_of([(f"word{number % 700} and more", number % 4) for number in range(20_000)])
    table.to_parquet(tmp_path / "rows.parquet", index=False)
    whole, batched = encode(table, text, "sentence"), encode_rows(read_batches(tmp_path / "rows.parquet"), text)
    assert len(list(read_batches(tmp_path / "rows.parquet"))) > 1
    assert whole.tokens == batched.tokens
    for name, array in vars(whole.corpus).items():
        assert np.array_equal(array, vars(batched.corpus)[name]), name


def test_texts_are_read_whole_in_their_order(text: TextConfig) -> None:
    vocabulary = encode(table_of([("good film", 1)]), text, "sentence").build_vocabulary()
    corpus = encode_texts(["GOOD film", "", "a film", "film"], text, vocabulary)
    film, good = vocabulary.encode(["film", "good"])
    assert [corpus.tokens_of(np.array([number])).tolist() for number in range(4)] == [
        [good, film],
        [UNKNOWN_ID],
        [UNKNOWN_ID, film],
        [film],
    ]
    assert corpus.row_ids.tolist() == [0, 1, 2, 3]
    assert corpus.starts.tolist() == [0, 0, 0, 0]
    assert corpus.ends.tolist() == [2, 1, 2, 1]
