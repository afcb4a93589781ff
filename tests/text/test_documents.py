import numpy as np
import pytest

from unroll.core.errors import UnrollError
from unroll.core.settings import Config, TextConfig
from unroll.data.corpora import Document
from unroll.text.documents import (
    BEGIN,
    END,
    TokenizedDocuments,
    join_vocabularies,
    label_token,
    make_document_corpus,
    tokenize_documents,
)
from unroll.text.encode import encode_rows
from unroll.text.vocabulary import UNKNOWN, Vocabulary, get_tokenizer, split_as_treebank


def text_of(config: Config, task: str = "sentiment") -> TextConfig:
    return config.task[task].text


def test_a_corpus_is_cut_as_the_competitions_files_are(config: Config) -> None:
    """The left side is as a review has it, the right side as the competition's files have such a sentence."""
    pairs = {
        'It isn\'t a "good" film (or is it?).': "It is n't a `` good '' film -LRB- or is it ? -RRB- .",
        "The director's cut's fine... They'll see.": "The director 's cut 's fine ... They 'll see .",
        "Mr. Smith cannot act. He's bad!": "Mr. Smith can not act . He 's bad !",
        "A 2.5-hour film, J. Doe's best": "A 2.5-hour film , J. Doe 's best",
    }
    for raw, cut in pairs.items():
        assert split_as_treebank(raw) == cut.split()
        documents = tokenize_documents([Document(raw)], text_of(config), "treebank")
        own = get_tokenizer(text_of(config))(cut)
        assert [documents.tokens[number] for number in documents.numbers] == [BEGIN, *own, END]


def test_documents_longer_than_the_tasks_limit_are_read_whole(config: Config) -> None:
    short = text_of(config).model_copy(update={"max_tokens": 3})
    documents = tokenize_documents([Document("a b c d e f g")], short, None)
    assert len(documents.numbers) == 9


def test_many_documents_stay_in_order(config: Config) -> None:
    documents = tokenize_documents((Document(f"w{n}", "ab"[n % 2]) for n in range(1200)), text_of(config), None)
    words = [documents.tokens[number] for number in documents.numbers[1::3]]
    assert words == [f"w{n}" for n in range(1200)]
    assert documents.labels == ("a", "b")
    assert documents.targets.tolist() == [n % 2 for n in range(1200)]


def test_the_vocabulary_has_the_tasks_words_first_then_the_corpus_frequent_ones(config: Config) -> None:
    texts = ["a b b c", "b c c d"]
    documents = tokenize_documents(map(Document, texts), text_of(config), None)
    pretrain = config.task["sentiment"].pretrain.model_copy(update={"min_count": 2, "max_size": None})
    vocabulary = join_vocabularies(Vocabulary((UNKNOWN, "film", "c")), documents, pretrain)
    assert vocabulary.tokens == (UNKNOWN, "film", "c", BEGIN, END, "b")
    few = pretrain.model_copy(update={"max_size": 1})
    assert len(join_vocabularies(Vocabulary((UNKNOWN,)), documents, few)) == 4


def test_documents_become_pieces_of_nearly_equal_length_with_the_label_of_the_whole(config: Config) -> None:
    texts = [Document(" ".join("abcdefgh"), "pos"), Document("a"), Document("b c", "neg")]
    documents = tokenize_documents(texts, text_of(config), None)
    vocabulary = Vocabulary((UNKNOWN, BEGIN, END, *"abcdefgh"))
    corpus = make_document_corpus(documents, vocabulary, 4, seed=1)
    pieces = [
        "".join(vocabulary.tokens[number] for number in corpus.tokens[first:last])
        for first, last in zip(corpus.offsets[:-1], corpus.offsets[1:], strict=True)
    ]
    assert pieces == ["<s>ab", "cde", "fgh</s>", "<s>a</s>", "<s>bc</s>"]
    np.testing.assert_array_equal(corpus.targets[:, 0], [1, 1, 1, np.nan, 0])
    assert sorted(np.bincount(corpus.folds)) == [1, 4], "of so few documents a piece is held out"
    many = tokenize_documents([Document(" ".join("abcdefgh"))] * 30, text_of(config), None)
    folds = make_document_corpus(many, vocabulary, 4, seed=1).folds.reshape(30, 3)
    assert sorted(folds.sum(1)) == [0, *[3] * 29], "all pieces of a document"
    one = tokenize_documents([Document("a b")], text_of(config), None)
    with pytest.raises(UnrollError, match=r"pretrain.corpus: found 4 tokens, expected more than pretrain.chunk, 4"):
        make_document_corpus(one, vocabulary, 4, seed=1)


def test_a_tasks_own_sequences_are_documents(config: Config) -> None:
    """A phrase within a sentence is no document of its own."""
    columns = {
        "row_id": range(3), "group": ["1", "1", "2"], "text": ["a good film", "good", "bad"], "fold": [0, 0, -1],
        "true:Sentiment": [3, 3, np.nan],
    }  # fmt: skip
    documents = TokenizedDocuments.of_rows(encode_rows([columns], text_of(config)))
    assert [documents.tokens[number] for number in documents.numbers] == [
        *["<s>", "a", "good", "film", "</s>", "<s>", "bad", "</s>"]
    ]
    assert documents.offsets.tolist() == [0, 5, 8]
    assert documents.counts()["film"] == 1


def test_a_document_may_begin_with_its_label(config: Config) -> None:
    documents = tokenize_documents([Document("Rossi", "Italian")], text_of(config, "surnames"), None, label_first=True)
    tokens = [documents.tokens[number] for number in documents.numbers]
    assert documents.labels == ()
    assert np.isnan(documents.targets).all(), "what is read is nothing to predict"
    assert tokens == [label_token("Italian"), *get_tokenizer(text_of(config, "surnames"))("Rossi"), END]
