"""What holds for every cell on every task: one table of cases runs the same contract over all of them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.support.definitions import define, load_task
from unroll.core.settings import Config, ModelConfig, TrainConfig
from unroll.data.rows import TRAIN, TRUTH, read_rows
from unroll.models.bundle import Bundle, load_bundle, save_bundle
from unroll.models.inference import predict
from unroll.models.span_classifier import CELLS, SpanClassifier
from unroll.text.batches import iterate_batches
from unroll.text.corpus import Corpus
from unroll.text.encode import encode_rows
from unroll.text.vocabulary import Vocabulary
from unroll.training.fit import fit
from unroll.training.lessons import LETTERS, make_hello_corpus

SAMPLE = Path(__file__).parents[2] / "data/sample"
KINDS = ("hello", "surnames", "sentiment phrase", "sentiment sentence", "sentiment hidden layer")


@dataclass(frozen=True)
class Case:
    corpus: Corpus
    vocabulary: Vocabulary
    classes: int
    model: SpanClassifier
    shape: ModelConfig
    cell: str
    kind: str


@pytest.fixture(scope="module")
def sample_rows() -> dict[str, pd.DataFrame]:
    tables = {}
    for name in ("sentiment", "surnames"):
        task = load_task(name)
        _, rows = read_rows(task, SAMPLE / task.folder, folds=2, test_share=0.0, seed=1)
        tables[name] = rows[rows["part"] == TRAIN]
    return tables


@pytest.fixture(params=[(cell, kind) for cell in CELLS for kind in KINDS], ids="-".join)
def case(request: pytest.FixtureRequest, sample_rows: dict[str, pd.DataFrame], config: Config) -> Case:
    cell, kind = request.param
    if kind == "hello":
        shape = config.task["surnames"].model.model_copy(update={"embedding": None, "hidden": 5, "layers": 1})
        vocabulary = Vocabulary(("<unk>", *LETTERS))
        corpus, classes = make_hello_corpus(), len(LETTERS)
    else:
        name, _, context = kind.partition(" ")
        text = config.task[name].text
        head = {"head": "mlp", "head_hidden": 24} if context == "hidden layer" else {}
        shape = config.task[name].model.model_copy(update={"hidden": 16, "embedding": 12, **head})
        rows = sample_rows[name].groupby(TRUTH + load_task(name).target.columns[0]).head(12).sort_index().assign(fold=0)
        if context == "phrase":
            text = text.model_copy(update={"context": "phrase"})
        encoded = encode_rows([rows.to_dict("list")], text)
        vocabulary = encoded.build_vocabulary()
        corpus = encoded.with_vocabulary(vocabulary)
        classes = len(load_task(name).outputs)
    torch.manual_seed(1)
    model = SpanClassifier(cell, shape, len(vocabulary), classes)
    return Case(corpus, vocabulary, classes, model, shape, cell, kind)


def test_shapes_logits_for_every_span(case: Case) -> None:
    for batch in iterate_batches(case.corpus, np.arange(len(case.corpus)), 8, 1000):
        assert batch.tokens.shape[0] <= 8
        assert case.model(batch).shape == (len(batch.targets), case.classes)
        width = case.model.recurrent.hidden_size * 2
        assert case.model.encode(batch.tokens).shape == (*batch.tokens.shape, width)


def test_probabilities_are_probabilities_and_evaluation_is_deterministic(case: Case) -> None:
    everything = np.arange(len(case.corpus))
    first = predict(case.model, case.corpus, everything)
    np.testing.assert_allclose(first.sum(1), 1, rtol=1e-5)
    assert (first == predict(case.model, case.corpus, everything)).all()
    assert case.model.training, "prediction leaves the model as it was"
    batch = next(iterate_batches(case.corpus, everything, 8, 1000))
    assert not torch.equal(case.model(batch), case.model(batch)), "dropout is on in training"


def test_what_stands_beside_a_sequence_in_its_batch_changes_nothing(case: Case) -> None:
    everything = np.arange(len(case.corpus))
    together = predict(case.model, case.corpus, everything)
    alone = np.concatenate([predict(case.model, case.corpus, everything[[number]]) for number in everything])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)


def test_it_learns_eight_rows_by_heart(case: Case, plain_recipe: TrainConfig) -> None:
    chosen = np.unique(np.linspace(0, len(case.corpus) - 1, 8).astype(int))
    labels = case.corpus.targets[case.corpus.spans_of(chosen), 0]
    task, recipe = define([str(number) for number in range(case.classes)], "accuracy"), {"epochs": 120}
    history = fit(
        case.model, case.corpus, chosen, chosen, plain_recipe.model_copy(update=recipe), task, seed=1, quiet=True
    )
    found = predict(case.model, case.corpus, chosen).argmax(1)
    assert history.epochs[history.best_epoch - 1].scores["accuracy"] == (found == labels).mean() == 1
    assert len(set(labels)) > 1, "one label alone needs no learning"


def test_a_saved_and_loaded_model_is_equal(case: Case, config: Config, tmp_path: Path) -> None:
    text = config.task["surnames" if case.kind in ("hello", "surnames") else "sentiment"].text
    names = tuple(f"label {number}" for number in range(case.classes))
    bundle = Bundle("task", case.cell, "classes", names, text, case.shape, case.vocabulary, case.model)
    save_bundle(tmp_path, bundle)
    loaded = load_bundle(tmp_path)
    everything = np.arange(len(case.corpus))
    assert (predict(loaded.model, case.corpus, everything) == predict(case.model, case.corpus, everything)).all()
    texts = ["hell", "a good film", "", "ñ"]
    assert (loaded.predict(texts) == bundle.predict(texts)).all()
    assert loaded.vocabulary == case.vocabulary
    assert (loaded.outputs, loaded.text, loaded.shape) == (bundle.outputs, bundle.text, bundle.shape)
