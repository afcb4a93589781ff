import ssl
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unroll.core.errors import UnrollError
from unroll.core.settings import Config
from unroll.text.tokenizer import get_tokenizer
from unroll.text.vectors import load_vectors
from unroll.text.vocabulary import UNKNOWN, UNKNOWN_ID, Vocabulary, build_vocabulary

TEXTS = st.lists(st.lists(st.sampled_from(["a", "b", "c", "d", "é", UNKNOWN]), max_size=6), max_size=8)


@pytest.mark.parametrize(
    ("tokenizer", "lower", "text", "tokens"),
    [
        ("whitespace", False, "It 's  GOOD .", ["It", "'s", "GOOD", "."]),
        ("whitespace", True, "It 's  GOOD .", ["it", "'s", "good", "."]),
        ("basic_english", False, "Good, isn't it?", ["good", ",", "isn", "'", "t", "it", "?"]),
        ("characters", False, "O'Né", ["O", "'", "N", "é"]),
        ("characters", True, "O'Né", ["o", "'", "n", "é"]),
        ("whitespace", True, " ", []),
    ],
)
def test_a_tokenizer_cuts(config: Config, tokenizer: str, lower: bool, text: str, tokens: list[str]) -> None:
    settings = config.task["sentiment"].text.model_copy(update={"tokenizer": tokenizer, "lower": lower})
    assert get_tokenizer(settings)(text) == tokens


@given(TEXTS, st.integers(1, 3), st.none() | st.integers(1, 4))
def test_a_vocabulary_keeps_the_most_frequent_tokens_and_reads_all_others_as_unknown(
    texts: list[list[str]], min_count: int, max_size: int | None
) -> None:
    vocabulary = build_vocabulary(texts, min_count, max_size)
    counts = Counter(token for text in texts for token in text if token != UNKNOWN)
    kept = vocabulary.tokens[1:]
    assert vocabulary.tokens[0] == UNKNOWN
    assert len(kept) == min(sum(count >= min_count for count in counts.values()), max_size or 99)
    assert list(kept) == sorted(kept, key=lambda token: (-counts[token], token))
    left_out = counts.keys() - set(kept)
    assert all(counts[token] <= min((counts[word] for word in kept), default=99) for token in left_out)
    for text in texts:
        ids = vocabulary.encode(text)
        assert len(ids) == len(text)
        for token, number in zip(text, ids.tolist(), strict=True):
            assert vocabulary.tokens[number] == (token if token in kept else UNKNOWN)


@given(TEXTS, st.lists(st.booleans(), min_size=6, max_size=6))
def test_a_restricted_vocabulary_reads_what_it_lost_as_unknown(texts: list[list[str]], marks: list[bool]) -> None:
    vocabulary = build_vocabulary(texts)
    known = np.array(marks[: len(vocabulary)])
    smaller, new_ids = vocabulary.restrict(known)
    for text in texts:
        assert (new_ids[vocabulary.encode(text)] == smaller.encode(text)).all()
    assert set(smaller.tokens) == {UNKNOWN} | {t for t, keep in zip(vocabulary.tokens, known, strict=True) if keep}


def test_a_vocabulary_with_a_token_twice_is_refused() -> None:
    with pytest.raises(UnrollError, match="must differ"):
        Vocabulary((UNKNOWN, "a", "a"))


@pytest.fixture
def words() -> Vocabulary:
    return Vocabulary((UNKNOWN, "good", "Bad", "film"))


def test_vectors_of_a_local_file_are_found_by_word_and_by_lower_case(tmp_path: Path, words: Vocabulary) -> None:
    (tmp_path / "v.txt").write_text("good 1 2 3\nbad 4 5 6\nelse 7 8 9\n")
    before = ssl._create_default_https_context
    vectors = load_vectors(str(tmp_path / "v.txt"), words, tmp_path / "cache")
    assert vectors[1].tolist() == [1, 2, 3]
    assert vectors[2].tolist() == [4, 5, 6]
    assert np.isnan(vectors[[UNKNOWN_ID, 3]]).all()
    assert ssl._create_default_https_context is before, "torchtext switches off certificate checks"


def test_two_vector_files_of_one_name_are_not_mixed_up(tmp_path: Path, words: Vocabulary) -> None:
    for folder, number in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "v.txt").write_text(f"good {number} 0 0\n")
        vectors = load_vectors(str(tmp_path / folder / "v.txt"), words, tmp_path / "cache")
        assert vectors[1, 0] == number


@pytest.mark.parametrize("content", ["good 1 2 3\nbad 4 5\n", "good 1 x 3\n", ""])
def test_a_damaged_vectors_file_is_named(tmp_path: Path, words: Vocabulary, content: str) -> None:
    (tmp_path / "v.txt").write_text(content)
    with pytest.raises(UnrollError, match=r"v.txt: expected a word and equally many numbers on each line"):
        load_vectors(str(tmp_path / "v.txt"), words, tmp_path / "cache")


def test_an_unknown_vectors_name_is_refused_with_the_known_ones(tmp_path: Path, words: Vocabulary) -> None:
    with pytest.raises(UnrollError, match=r"'glove.7B'.*glove.6B.100d"):
        load_vectors("glove.7B", words, tmp_path)


def test_a_named_set_of_vectors_goes_through_torchtexts_own_loader(tmp_path: Path, words: Vocabulary) -> None:
    (tmp_path / "glove.6B.50d.txt").write_text("good " + " ".join(["0.5"] * 50) + "\n")  # as its zip unpacks
    vectors = load_vectors("glove.6B.50d", words, tmp_path)
    assert vectors.shape == (4, 50)
    assert np.isfinite(vectors).all(1).sum() == 1
