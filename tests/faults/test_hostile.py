"""Files that a person was handed by somebody who means harm, or by a broken program."""

import json
import os
import pickle
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.conftest import Tell
from tests.faults.fuzz import check_table, check_texts, contents, pieces, refuses, texts, zipped
from tests.support.definitions import load_task
from tests.support.imports import SOURCE
from unroll.core.errors import UnrollError
from unroll.core.settings import ModelConfig, TextConfig
from unroll.data.tables import find_text_file
from unroll.data.texts import Kind
from unroll.models.bundle import Bundle, load_bundle, save_bundle
from unroll.models.span_classifier import SpanClassifier
from unroll.text.vectors import load_vectors
from unroll.text.vocabulary import Vocabulary
from unroll.training.state import load_checkpoint

SENTIMENT = load_task("sentiment")
CASES = int(os.environ.get("FUZZ_CASES", "1000"))  # `make test-faults` asks for 100,000 and more in all
many = settings(max_examples=CASES, suppress_health_check=list(HealthCheck), database=None)
some = settings(max_examples=max(100, CASES // 20), suppress_health_check=list(HealthCheck), database=None)


@many
@given(contents, st.sampled_from(["csv", "tsv", "lines"]))
def test_any_bytes_are_read_right_or_refused_by_predict(content: bytes, kind: Kind) -> None:
    check_texts(content, kind)


@many
@given(st.lists(texts, max_size=4), texts, st.sampled_from(["\n", "\r\n"]))
def test_any_texts_in_a_table_are_read_right_or_refused_by_predict(rows: list[str], extra: str, end: str) -> None:
    content = end.join(["id\ttext", *(f"{number}\t{row}" for number, row in enumerate(rows))]) + extra
    check_texts(content.encode(), "tsv")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    (folder / "test.tsv").write_text("PhraseId\tSentenceId\tPhrase\n900\t90\ta film\n")
    (folder / "sampleSubmission.csv").write_text("PhraseId,Sentiment\n900,2\n")
    return folder


HEADER = b"PhraseId\tSentenceId\tPhrase\tSentiment\n"


@some
@given(st.lists(st.tuples(texts, st.sampled_from("01234")), min_size=2, max_size=5))
def test_a_table_with_any_phrase_is_read_letter_for_letter_or_refused(raw: Path, rows: list[tuple[str, str]]) -> None:
    lines = "".join(f"{number}\t{number}\t{text}\t{label}\n" for number, (text, label) in enumerate(rows, start=1))
    check_table(SENTIMENT, raw, HEADER + lines.encode())


@some
@given(contents)
def test_a_table_of_any_bytes_is_read_letter_for_letter_or_refused(raw: Path, content: bytes) -> None:
    check_table(SENTIMENT, raw, HEADER + b"1\t1\tgood\t3\n2\t2\tbad\t0\n" + content)


@some
@given(st.one_of(contents, st.lists(pieces, max_size=8).map(lambda parts: " ".join(parts).encode())))
def test_vectors_of_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "vectors"
    folder.mkdir(exist_ok=True)
    (folder / "v.txt").write_bytes(content)
    vocabulary = Vocabulary(("<unk>", "good", "word"))
    try:
        vectors = load_vectors(str(folder / "v.txt"), vocabulary, folder / "cache")
    except UnrollError as error:
        assert "v.txt" in str(error)
    else:
        assert len(vectors) == len(vocabulary)


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    shape = ModelConfig(
        embedding=3, hidden=2, layers=1, bidirectional=False, pooling=("last",), head="linear", head_hidden=None,
        embedding_dropout=0.0, layer_dropout=0.0, head_dropout=0.0,
    )  # fmt: skip
    text = TextConfig(
        tokenizer="whitespace", lower=True, context="phrase", min_count=1, max_size=None, vectors=(),
        max_tokens=None, truncate="head",
    )  # fmt: skip
    vocabulary = Vocabulary(("<unk>", "good", "bad"))
    model = SpanClassifier("GRU", shape, len(vocabulary), 2).eval()
    save_bundle(folder, Bundle("mood", "GRU", "classes", ("0", "1"), text, shape, vocabulary, model))
    return folder


@some
@given(st.sampled_from(["bundle.json", "weights.safetensors"]), st.binary(min_size=1, max_size=8), st.integers(0, 5000))
def test_a_bundle_with_other_bytes_in_it_is_refused_or_whole(
    bundle_folder: Path, name: str, content: bytes, place: int
) -> None:
    file = bundle_folder / name
    before = file.read_bytes()
    place %= len(before)
    after = before[:place] + content + before[place + len(content) :]
    try:
        file.write_bytes(after)
        try:
            bundle = load_bundle(bundle_folder)
        except UnrollError as error:
            assert str(bundle_folder) in str(error)
        else:
            assert name == "bundle.json" or after == before, "other weights were taken"
            assert bundle.predict(["good"]).shape == (1, 2)
    finally:
        file.write_bytes(before)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 10**12), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


@some
@given(st.data())
def test_a_bundle_with_a_forged_description_is_refused_or_whole(bundle_folder: Path, data: st.DataObject) -> None:
    file = bundle_folder / "bundle.json"
    before = file.read_bytes()
    description = json.loads(before)
    description[data.draw(st.sampled_from(sorted(description)))] = data.draw(JSON)
    try:
        file.write_text(json.dumps(description))
        try:
            bundle = load_bundle(bundle_folder)
        except UnrollError as error:
            assert str(bundle_folder) in str(error)
        else:
            assert bundle.predict(["good"]).shape == (1, 2)
    finally:
        file.write_bytes(before)


def test_a_line_of_a_megabyte_and_more_is_read(raw: Path) -> None:
    long = "word " * 400_000
    assert check_table(SENTIMENT, raw, HEADER + f"1\t1\t{long}\t3\n2\t2\tbad\t0\n".encode())
    assert check_texts(f"text\n{long}\n".encode(), "tsv")
    assert check_texts(long.encode(), "lines")


def test_a_zip_bomb_is_refused_unread(tmp_path: Path, tell: Tell) -> None:
    (tmp_path / "train.tsv.zip").write_bytes(zipped("train.tsv", bytes(300 << 20)))
    sentence = refuses(lambda: find_text_file(tmp_path, "train.tsv").read_lines())
    assert (
        "train.tsv.zip: train.tsv: unpacks to 314,572,800 bytes, more than 200 times its size in the archive"
        in sentence
    )
    tell("a zip bomb", "refused by its directory, before a byte is unpacked")


def test_a_path_that_climbs_out_of_an_archive_writes_nothing_outside(tmp_path: Path, tell: Tell) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "train.tsv.zip").write_bytes(zipped("../train.tsv", b"x"))
    assert find_text_file(folder, "train.tsv").read_lines() == ["x"]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    tell("a path that climbs out of an archive", "nothing is written outside")


class Harm:
    """What a pickle can hold: a program."""

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, (f"touch {MARK}",))


MARK = "harm-was-done"


def test_no_pickle_that_a_person_could_be_handed_is_run(
    tmp_path: Path, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, tell: Tell
) -> None:
    monkeypatch.chdir(tmp_path)
    harm = pickle.dumps(Harm(), protocol=2)  # the one that torch.save writes
    # A model, in place of the weights.
    weights = bundle_folder / "weights.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(harm)
    refuses(lambda: load_bundle(bundle_folder))
    weights.write_bytes(before)
    # A checkpoint, its checksums right.
    (tmp_path / "c").mkdir()
    torch.save(Harm(), tmp_path / "c/epoch-000001.pt")
    with pytest.raises(pickle.UnpicklingError):
        load_checkpoint(tmp_path / "c")
    # An array.
    np.save(tmp_path / "a.npy", np.array([Harm()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        np.load(tmp_path / "a.npy", allow_pickle=False)
    # Vectors: the loader's own cache beside a file.
    (tmp_path / "v.txt").write_text("good 1 2 3\n")
    vocabulary = Vocabulary(("<unk>", "good"))
    (tmp_path / "v.txt.pt").write_bytes(harm)
    assert load_vectors("v.txt", vocabulary, tmp_path / "cache")[1].tolist() == [1, 2, 3]
    for path in (tmp_path / "cache").rglob("*.pt"):
        path.write_bytes(harm)
    with suppress(UnrollError):
        load_vectors("v.txt", vocabulary, tmp_path / "cache")
    assert not (tmp_path / MARK).exists()
    tell("a pickle in place of a model", "never run: safetensors, weights_only, allow_pickle=False")


def test_no_module_reads_a_pickle() -> None:
    for path in SOURCE.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert "pickle.load" not in source, path
        assert source.count("torch.load(") == source.count("weights_only=True"), path
        assert source.count("np.load(") == source.count("allow_pickle=False"), path


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("reader", ["texts", "vectors", "bundle"])
def test_readers_under_a_fuzzer_that_sees_their_branches(reader: str, tmp_path: Path, tell: Tell) -> None:
    pytest.importorskip("atheris", reason="atheris has no build for this Python")
    runs = {"texts": 80_000, "vectors": 3_000, "bundle": 5_000}[reader]
    program = Path(__file__).parent / "fuzzer.py"
    done = subprocess.run(
        [sys.executable, str(program), reader, f"-atheris_runs={runs}", "-max_len=400", "-seed=1"],
        cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": f"{SOURCE}{os.pathsep}{program.parents[2]}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"Done {runs} in" in done.stderr, done.stderr[-3000:]
    tell(f"atheris on {reader}", f"{runs:,} cases, no crash, no wrong row")


def test_the_number_of_cases(tell: Tell) -> None:
    tell("hypothesis on all readers", f"{2 * CASES + 5 * max(100, CASES // 20):,} cases, no crash, no wrong row")
