import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unroll.core.errors import UnrollError
from unroll.core.settings import Config, ModelConfig
from unroll.models.bundle import Bundle, load_bundle, predict_mean, save_bundle
from unroll.models.span_classifier import SpanClassifier
from unroll.text.corpus import Corpus
from unroll.text.vocabulary import Vocabulary


@pytest.fixture
def bundle(small_corpus: tuple[Corpus, Vocabulary], small_model: ModelConfig, config: Config) -> Bundle:
    _, vocabulary = small_corpus
    model = SpanClassifier("GRU", small_model, len(vocabulary), 3).eval()
    names = ("low", "middle", "high")
    return Bundle("mood", "GRU", "classes", names, config.task["sentiment"].text, small_model, vocabulary, model)


def test_a_bundle_answers_every_text_in_order_known_or_not(bundle: Bundle) -> None:
    texts = ["a very good film", "", "zzz qqq", "A VERY GOOD FILM", " "]
    answers = bundle.predict(texts)
    assert answers.shape == (5, 3)
    np.testing.assert_allclose(answers.sum(1), 1, rtol=1e-5)
    assert (answers[0] == answers[3]).all(), "the sample's text settings read in lower case"
    assert (answers[1] == answers[4]).all()
    np.testing.assert_allclose(bundle.predict(texts[2:3]), answers[2:3], atol=1e-6)
    assert bundle.predict([]).shape == (0, 3)


def test_several_bundles_answer_with_their_mean(bundle: Bundle, small_model: ModelConfig) -> None:
    other = Bundle(**{**vars(bundle), "model": SpanClassifier("GRU", small_model, len(bundle.vocabulary), 3)})
    mean = predict_mean([bundle, other], ["good"])
    np.testing.assert_allclose(mean, (bundle.predict(["good"]) + other.predict(["good"])) / 2, rtol=1e-6)


def test_a_bundle_is_weights_and_json_and_nothing_that_runs(bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(tmp_path, bundle)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle.json", "weights.safetensors"]
    description = json.loads((tmp_path / "bundle.json").read_text())
    assert description["outputs"] == ["low", "middle", "high"]
    assert description["tokens"][0] == "<unk>"


def edit(**changes: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        path = folder / "bundle.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def resize(**sizes: int) -> Callable[[Path], object]:
    """Change sizes of the model, as in a file that is made to fill memory."""

    def change(folder: Path) -> None:
        shape = json.loads((folder / "bundle.json").read_text())["model"] | sizes
        edit(model=shape)(folder)

    return change


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-5] ^= 1
    (folder / "weights.safetensors").write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "bundle.json").unlink(), "bundle.json: no such file"),
        (lambda folder: (folder / "bundle.json").write_text("{"), "bundle.json: "),
        (lambda folder: (folder / "bundle.json").write_text("{}"), "bundle.json: format: missing"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "weights.safetensors: no such file"),
        (lambda folder: (folder / "bundle.json").write_text("[]"), "bundle.json"),
        (flip_a_bit, "weights.safetensors or bundle.json is not as it was written"),
        (edit(format=99), "bundle.json: format: found 99; input should be 5"),
        (edit(cell="Transformer"), "bundle.json: cell: found 'Transformer'; input should be 'RNN', 'LSTM' or 'GRU'"),
        (edit(tokens=["<unk>", "a"]), "damaged model"),
        (edit(tokens=["<unk>", "a", "a"]), "tokens must differ"),
        (edit(outputs=["low"]), "size mismatch"),
        (edit(model={"hidden": 3}), "bundle.json: model.embedding: missing"),
        (resize(hidden=10**7), "size mismatch"),
        (resize(embedding=10**30), "damaged model"),
        (resize(layers=10**9), "do not fit each other"),
    ],
)
def test_a_damaged_bundle_is_refused_with_its_name(
    bundle: Bundle, tmp_path: Path, spoil: Callable[[Path], object], told: str
) -> None:
    save_bundle(tmp_path, bundle)
    spoil(tmp_path)
    with pytest.raises(UnrollError) as error:
        load_bundle(tmp_path)
    assert told in str(error.value)
    assert str(tmp_path) in str(error.value)
