import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.support.definitions import load_task
from unroll.core.errors import UnrollError
from unroll.core.settings import TaskConfig
from unroll.data.corpora import Document
from unroll.models import language_model
from unroll.models.bundle import load_bundle
from unroll.models.generation import load_generator
from unroll.text.corpus import Corpus
from unroll.text.documents import BEGIN, END, join_vocabularies, make_document_corpus, tokenize_documents
from unroll.text.vocabulary import UNKNOWN, Vocabulary
from unroll.training import just_in_time, state
from unroll.training.cache import FoldResult
from unroll.training.cross_validation import Training
from unroll.training.fold_data import TrainingData
from unroll.training.parallel import FoldListener, train_all, train_once
from unroll.training.pretraining import Pretraining

# the word after each is certain, which a unigram model cannot know
CYCLE = ["a", "very", "good", "film", "is", "not", "a", "bad", "film", "at", "all"]
TEXTS = [Document(" ".join(CYCLE[n % 11 :] + CYCLE[: n % 11]), ("neg", "pos")[n % 2]) for n in range(60)]


@pytest.fixture
def tiny(task_config: TaskConfig) -> TaskConfig:
    pretrain = task_config.pretrain.model_copy(
        update={"min_count": 1, "tokenizer": None, "chunk": 8, "passes": 10, "batch_size": 8, "lr": 0.03}
    )
    model = task_config.model.model_copy(update={"embedding": 12, "hidden": 12})
    return task_config.model_copy(update={"pretrain": pretrain, "model": model})


def data_of(tiny: TaskConfig, documents: list[Document] = TEXTS) -> tuple[TrainingData, tuple[str, ...]]:
    tokenized = tokenize_documents(documents, tiny.text, None)
    vocabulary = join_vocabularies(Vocabulary((UNKNOWN, "rare")), tokenized, tiny.pretrain)
    corpus = make_document_corpus(tokenized, vocabulary, tiny.pretrain.chunk, 1)
    return TrainingData(corpus, "documents", vocabulary, None), tokenized.labels


def pretrain(tiny: TaskConfig, cache: Path, documents: list[Document] = TEXTS, cell: str = "GRU") -> FoldResult:
    data, labels = data_of(tiny, documents)
    training = Pretraining("sentiment", "tiny", cell, tiny, labels, 1)
    return train_all([training], data, cache=cache, listener=FoldListener())[0]


@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_its_perplexity_falls_far_below_that_of_a_unigram_model(tiny: TaskConfig, tmp_path: Path, cell: str) -> None:
    summary = pretrain(tiny, tmp_path, cell=cell).summary()
    assert summary["perplexity"] < summary["unigram_perplexity"] / 3
    assert summary["perplexity"] == pytest.approx(math.exp(summary["log_loss"]))
    assert 0 <= summary["label_accuracy"] <= 1


def test_a_corpus_without_labels_teaches_words_alone(tiny: TaskConfig, tmp_path: Path) -> None:
    summary = pretrain(tiny, tmp_path, [Document(text.text) for text in TEXTS]).summary()
    assert summary["perplexity"] < summary["unigram_perplexity"] / 3
    assert "label_accuracy" not in summary


@pytest.fixture(params=["dense", "just in time"])
def steps_of_the_embedding(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "just in time":  # which a vocabulary of these few words is too small for
            patch.setattr(language_model, "NUM_SAMPLED", 4)
            patch.setattr(just_in_time, "FEWEST_ROWS", 0)
        yield


@pytest.mark.usefixtures("steps_of_the_embedding")
def test_an_interrupted_training_continues_to_the_same_weights(
    tiny: TaskConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pretrain(tiny, tmp_path / "whole")
    save, count = state.TrainState.save, 0

    def interrupted(*arguments: object) -> None:
        nonlocal count
        save(*arguments)  # type: ignore[arg-type]
        count += 1
        if count == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(state.TrainState, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain(tiny, tmp_path / "cut")
    monkeypatch.undo()
    steps, update = 0, state.TrainState.update

    def counted(*values: Any) -> torch.Tensor:
        nonlocal steps
        steps += 1
        return update(*values)

    monkeypatch.setattr(state.TrainState, "update", counted)
    continued = pretrain(tiny, tmp_path / "cut")
    a_pass = steps / (whole.summary()["best_epoch"] - 4)
    assert a_pass == int(a_pass), "only the passes that were left"
    assert continued.summary() == whole.summary()
    assert (continued.done / "weights.safetensors").read_bytes() == (whole.done / "weights.safetensors").read_bytes()


def test_a_tasks_model_begins_from_it_and_keeps_the_words_of_the_corpus(
    tiny: TaskConfig, small_corpus: tuple[Corpus, Vocabulary], tmp_path: Path
) -> None:
    """Of one cell the model begins from the pretrained one; the words that only the corpus has are known to it."""
    documents = [*TEXTS, Document("a dull film at all"), Document("a dull film at all , not good")]
    tokenized = tokenize_documents(documents, tiny.text, None)
    corpus, known = small_corpus
    vocabulary = join_vocabularies(known, tokenized, tiny.pretrain)
    documents_corpus = make_document_corpus(tokenized, vocabulary, 8, 1)
    training = Pretraining("sentiment", "tiny", "GRU", tiny, tokenized.labels, 1)
    done = train_once(training, TrainingData(documents_corpus, "documents", vocabulary, None), tmp_path).done
    weights = load_file(done / "weights.safetensors")
    assert [bundle.tokens for bundle in [load_bundle(done).vocabulary]] == [vocabulary.tokens]

    is_seen = np.array([token in tokenized.tokens for token in vocabulary.tokens])
    data = TrainingData(corpus, "task", vocabulary, None, {"GRU": weights}, is_seen)
    still = tiny.model_copy(update={"train": tiny.train.model_copy(update={"lr": 1e-9, "epochs": 1})})
    task = load_task("sentiment")
    result = train_once(Training(task, "GRU", 2, still, 1), data, tmp_path)
    bundle = load_bundle(result.done)
    assert {"dull", "bad", BEGIN, END} <= set(bundle.vocabulary.tokens), "fold 2 alone has bad, and none has dull"
    state_dict, rows = bundle.model.state_dict(), [vocabulary.tokens.index(token) for token in bundle.vocabulary.tokens]
    for name, array in weights.items():
        if name == "embedding.weight":
            torch.testing.assert_close(state_dict[name], torch.from_numpy(array)[rows], atol=1e-6, rtol=0)
        elif name.startswith("recurrent"):
            torch.testing.assert_close(state_dict[name], torch.from_numpy(array), atol=1e-6, rtol=0)
    held_out, predicted = result.predictions("valid")
    assert held_out[0] == 105
    assert bundle.predict(["a very bad film"])[0] == pytest.approx(predicted[0], abs=1e-6)

    without = replace(data, pretrained={})
    keys = {cell: Training(task, cell, 2, still, 1).key(data) for cell in ("GRU", "LSTM")}
    assert Training(task, "GRU", 2, still, 1).key(without) != keys["GRU"]
    assert Training(task, "LSTM", 2, still, 1).key(without) == keys["LSTM"], "pretraining another cell retrains none"
    other = load_bundle(train_once(Training(task, "LSTM", 2, still, 1), data, tmp_path).done)
    assert "dull" not in other.vocabulary.tokens, "a cell that was not pretrained knows its own words alone"
    wider = still.model_copy(update={"model": still.model.model_copy(update={"hidden": 20})})
    with pytest.raises(UnrollError, match=r"pretrained weights recurrent\.\w+: found the shape"):
        train_once(Training(task, "GRU", 2, wider, 1), data, tmp_path)


def test_pretrained_weights_learn_at_their_own_rate(
    tiny: TaskConfig, small_corpus: tuple[Corpus, Vocabulary], tmp_path: Path
) -> None:
    corpus, vocabulary = small_corpus
    result = pretrain(tiny, tmp_path)
    weights = load_file(result.done / "weights.safetensors")
    weights["embedding.weight"] = np.zeros((len(vocabulary), 12), np.float32)
    data = TrainingData(corpus, "task", vocabulary, None, {"GRU": weights}, np.ones(len(vocabulary), np.bool_))
    moved = {}
    for rate in (1.0, 0.001):
        slow = tiny.model_copy(update={"train": tiny.train.model_copy(update={"encoder_lr": rate})})
        done = train_once(Training(load_task("sentiment"), "GRU", 0, slow, 1), data, tmp_path).done
        after = load_file(done / "weights.safetensors")
        moved[rate] = float(np.abs(after["recurrent.weight_hh_l0"] - weights["recurrent.weight_hh_l0"]).mean())
    assert moved[0.001] < moved[1.0] / 100
    assert moved[0.001] > 0


def test_it_generates_what_it_has_learned(tiny: TaskConfig, tmp_path: Path) -> None:
    generator = load_generator(pretrain(tiny, tmp_path, cell="LSTM").done)
    found = generator.generate([BEGIN, "a", "very"], END, 5, 0.2, 1)
    assert found[:3] == ["good", "film", "is"]
    assert generator.generate([BEGIN], END, 9, 3.0, 1) == generator.generate([BEGIN], END, 9, 3.0, 1)
    assert len({tuple(generator.generate([BEGIN], END, 9, 3.0, seed)) for seed in range(5)}) > 1
    assert not any(UNKNOWN in generator.generate([BEGIN, "never", "seen"], END, 9, 3.0, seed) for seed in range(20))


def test_held_out_documents_are_not_trained_on(tiny: TaskConfig) -> None:
    data, _ = data_of(tiny)
    folds = data.corpus.folds
    assert (folds == 0).sum() == 2, "one document of 13 tokens, in two pieces"
    assert np.diff(data.corpus.offsets).max() <= tiny.pretrain.chunk
    assert replace(data.corpus).targets.shape == (len(data.corpus), 1)
