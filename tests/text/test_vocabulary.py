from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unroll.core.errors import UnrollError
from unroll.core.settings import Config
from unroll.text.vocabulary import UNKNOWN, Vocabulary, build_vocabulary, get_tokenizer

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
    counts = Counter(token for text in texts for token in text)
    vocabulary = build_vocabulary(counts, min_count, max_size)
    del counts[UNKNOWN]
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
    vocabulary = build_vocabulary(Counter(token for text in texts for token in text))
    known = np.array(marks[: len(vocabulary)])
    smaller, new_ids = vocabulary.restrict(known)
    for text in texts:
        assert (new_ids[vocabulary.encode(text)] == smaller.encode(text)).all()
    assert set(smaller.tokens) == {UNKNOWN} | {t for t, keep in zip(vocabulary.tokens, known, strict=True) if keep}


def test_a_vocabulary_with_a_token_twice_is_refused() -> None:
    with pytest.raises(UnrollError, match="must differ"):
        Vocabulary((UNKNOWN, "a", "a"))
