"""A disk that is full or read-only, and files that are damaged on it."""

import shutil
from pathlib import Path

import pytest

from tests.faults.conftest import Tell, models, read_only, small_disk, told, train
from tests.support.project import Project

pytestmark = pytest.mark.slow


@pytest.mark.faults
@pytest.mark.parametrize("size", ["20k", "60k", "90k"])
def test_training_on_a_full_disk_stops_and_goes_on(
    tokenized: Project, trained: dict[str, bytes], tell: Tell, size: str
) -> None:
    kept = tokenized.folder.parent / "kept"
    with small_disk(tokenized.folder / ".cache", size):
        sentence = told(train(tokenized, check=False))
        shutil.copytree(tokenized.folder / ".cache", kept)
    assert "No space left on device; free some disk space, and run the same command again" in sentence
    assert not models(tokenized)
    shutil.copytree(kept, tokenized.folder / ".cache", dirs_exist_ok=True)
    train(tokenized)
    assert models(tokenized) == trained
    tell(f"disk full in train ({size} for checkpoints)", "stops with a sentence, goes on once there is space")


@pytest.mark.faults
@pytest.mark.parametrize(
    ("stage", "output", "size"),
    [
        ("download", "data/raw", "12k"),
        ("prepare", "data/rows", "4k"),
        ("tokenize", "data/corpus", "24k"),
        ("train", "models", "12k"),
    ],
)
def test_a_stage_on_a_full_disk_leaves_nothing_half(
    tokenized: Project, stage: str, output: str, size: str, tell: Tell
) -> None:
    if stage != "train":
        shutil.rmtree(tokenized.folder / output)
    arguments = ("sentiment", "GRU") if stage == "train" else ("sentiment",)
    with small_disk(tokenized.folder / output, size):
        sentence = told(tokenized.run("python", "-m", f"unroll.stages.{stage}", *arguments, check=False))
        assert not [path for path in (tokenized.folder / output).rglob("*") if path.is_file()]
    assert "free some disk space" in sentence
    tokenized.run("python", "-m", f"unroll.stages.{stage}", *arguments)
    tell(f"disk full in {stage}", "stops with a sentence, no half file, a second run writes it")


@pytest.mark.faults
def test_a_read_only_folder_is_named(tokenized: Project, tell: Tell) -> None:
    with read_only(tokenized.folder / "models"):
        sentence = told(train(tokenized, check=False))
    assert "models/sentiment" in sentence
    assert "Read-only file system; make it readable and its folder writable" in sentence
    done = train(tokenized)
    assert "from the cache" in done.stdout, "the finished fold was lost"
    tell("read-only models/", "stops with a sentence; the finished fold is kept, no epoch is trained twice")


def test_a_damaged_corpus_is_named_with_what_to_do(tokenized: Project, tell: Tell) -> None:
    file = tokenized.folder / "data/corpus/sentiment/tokens/tokens.npy"
    content = bytearray(file.read_bytes())
    content[-4] ^= 1  # a token becomes another: no reader of the array could tell
    file.write_bytes(content)
    sentence = told(train(tokenized, check=False))
    assert "data/corpus/sentiment/tokens/tokens.npy: missing or damaged" in sentence
    assert "delete data/corpus/sentiment/tokens and run `dvc repro`" in sentence
    tell("a bit flipped in the corpus", "train stops, names the file and says how to make it again")


@pytest.mark.faults
def test_what_is_said_of_a_damaged_corpus_mends_it(small_project: Project, tell: Tell) -> None:
    before = small_project.state()
    shutil.rmtree(small_project.folder / "data/corpus/sentiment/tokens")
    small_project.run("dvc", "repro")
    assert small_project.state() == before
    tell("a damaged corpus, deleted", "`dvc repro` brings it back, nothing is trained again")


@pytest.mark.faults
def test_a_damaged_bundle_is_named(small_project: Project, tell: Tell) -> None:
    files: list[Path] = sorted((small_project.folder / "models/surnames/GRU/fold-0").glob("[bw]*"))
    for file in files:
        before = file.read_bytes()
        file.write_bytes(before[:-9] + bytes([before[-9] ^ 1]) + before[-8:])
        sentence = told(small_project.run("unroll", "predict", "surnames", "Nakamura", check=False))
        assert str(file.parent.relative_to(small_project.folder)) in sentence
        file.write_bytes(before)
    assert len(files) == 2
    small_project.run("unroll", "predict", "surnames", "Nakamura")
    tell("a bit flipped in a bundle", "predict stops, names the file and what writes it again")
