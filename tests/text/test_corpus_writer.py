"""A corpus written batch by batch is the one that is built in memory, byte for byte."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.definitions import load_task
from unroll.core.errors import UnrollError
from unroll.core.settings import Config, TextConfig
from unroll.data import rows
from unroll.data.rows import read_rows
from unroll.text import corpus_writer as ondisk
from unroll.text.corpus import TEST_FOLD, build_corpus
from unroll.text.corpus_writer import ArrayFile, draft_corpus, find_last_rows, finish_corpus
from unroll.text.spans import cut_rows
from unroll.text.vocabulary import UNKNOWN_ID, build_vocabulary, number_tokens

ROOT = Path(__file__).parents[2]
SENTIMENT = load_task("sentiment")


def build_both(table: pd.DataFrame, config: TextConfig, folder: Path) -> tuple[Path, Path]:
    """Return the folders of the corpus made in memory and of the one made on disk."""
    whole, streamed = folder / "whole", folder / "streamed"
    sequences, spans, folds = cut_rows(table, config)
    train = [sequence for sequence, fold in zip(sequences, folds, strict=True) if fold != TEST_FOLD]
    vocabulary = build_vocabulary(train, config.min_count, config.max_size)
    labels, row_ids = table["label"].to_numpy(), table["row_id"].to_numpy()
    corpus = build_corpus(vocabulary, sequences, folds, spans, labels, row_ids)
    corpus.save(whole)

    streamed.mkdir()
    table.to_parquet(folder / "rows.parquet", index=False, row_group_size=7)
    draft = draft_corpus(folder / "rows.parquet", streamed, config)
    found = number_tokens(draft.counts, config.min_count, config.max_size)
    numbers = found.encode(draft.tokens)
    finish_corpus(draft, numbers)
    assert found == vocabulary
    assert (draft.rows, draft.sequences, draft.size) == (len(table), len(corpus), len(corpus.tokens))
    test = corpus.tokens_of(np.flatnonzero(folds == TEST_FOLD))
    assert draft.unknown_share(numbers) == (pytest.approx((test == UNKNOWN_ID).mean()) if len(test) else None)
    return whole, streamed


def assert_same_files(whole: Path, streamed: Path) -> None:
    names = sorted(path.name for path in whole.iterdir())
    assert names == sorted(path.name for path in streamed.iterdir())
    for name in names:
        assert (whole / name).read_bytes() == (streamed / name).read_bytes(), name


TEXTS = st.lists(st.sampled_from(["a", "b", "c", "Déjà"]), max_size=5).map(" ".join)
ROWS = st.lists(st.tuples(TEXTS, st.integers(0, 6), st.integers(0, 4)), min_size=1, max_size=40)


@given(ROWS, st.sampled_from(["sentence", "phrase"]), st.booleans(), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_a_corpus_on_disk_is_that_of_the_memory(
    tmp_path_factory: pytest.TempPathFactory,
    config: Config,
    drawn: list[tuple[str, int, int]],
    context: str,
    is_sorted: bool,
    batch: int,
) -> None:
    """Groups stand together or are mixed, and group 0 is the test part."""
    drawn = sorted(drawn, key=lambda row: row[1]) if is_sorted else drawn
    table = pd.DataFrame(drawn, columns=["text", "group", "label"])
    table["fold"] = np.where(table["group"] == 0, TEST_FOLD, table["group"] % 3)
    table["row_id"], table["group"] = np.arange(len(table)) + 10, table["group"].astype(str)
    text = config.task["sentiment"].text.model_copy(update={"context": context, "min_count": 1 + batch % 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ondisk, "BATCH", batch)
        patch.setattr(ondisk, "WAITING", 10 - batch)
        assert_same_files(*build_both(table, text, tmp_path_factory.mktemp("corpus")))


@pytest.mark.parametrize("is_shuffled", [False, True])
def test_the_samples_corpus_is_that_of_the_memory(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_shuffled: bool
) -> None:
    monkeypatch.setattr(ondisk, "BATCH", 1000)
    monkeypatch.setattr(ondisk, "WAITING", 999)
    table = read_rows(SENTIMENT, ROOT / "data/sample" / SENTIMENT.folder, folds=5, test_share=0.0, seed=1)
    if is_shuffled:
        table = table.sample(frac=1, random_state=1, ignore_index=True)
    assert_same_files(*build_both(table, config.task["sentiment"].text, tmp_path))


def test_rows_are_the_same_whatever_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ROOT / "data/sample" / SENTIMENT.folder
    expected = read_rows(SENTIMENT, folder, folds=3, test_share=0.0, seed=1)
    for block in (1, 61, 4096):
        monkeypatch.setattr(rows, "BLOCK", block)
        cut = tmp_path / str(block)
        cut.mkdir()
        for name in ("train.tsv", "test.tsv", "sampleSubmission.csv"):
            content = (folder / name).read_bytes()
            # a mark at the beginning and lines that end as on Windows
            (cut / name).write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n") if block == 61 else content)
        if block > 1:
            pd.testing.assert_frame_equal(read_rows(SENTIMENT, cut, folds=3, test_share=0.0, seed=1), expected)
        else:  # a byte at a time is for a small file
            assert "".join(rows.stream_raw_text(cut / "train.tsv", "train.tsv")) == (cut / "train.tsv").read_text()


@pytest.mark.parametrize("content", [b"\n \n\n", b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf \n"])
def test_a_file_of_blanks_is_empty_whatever_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    for block in (1, 2, 100):
        monkeypatch.setattr(rows, "BLOCK", block)
        with pytest.raises(UnrollError, match=r"names.txt: the file is empty"):
            list(rows.stream_raw_text(tmp_path / "names.txt", "names.txt"))


def test_a_line_is_named_in_a_later_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BLOCK", 50)
    lines = ["PhraseId\tSentenceId\tPhrase\tSentiment", *(f"{number}\t{number}\tword\t1" for number in range(1, 40))]
    for line, spoiled, told in (
        (31, "30\t30\tword\t9", "line 31: Sentiment: found '9'"),
        (31, "30\t30\tword", "line 31: expected 4 fields, found 3"),
        (31, "x\t30\tword\t1", "line 31: PhraseId: found 'x'"),
        (31, "7\t30\tword\t1", "line 31: PhraseId: found '7', expected a value that stands once"),
        (31, "30\t30\tw\udcff\t1", "line 31: byte 0xff is not UTF-8"),
    ):
        changed = [*lines[: line - 1], spoiled, *lines[line:]]
        (tmp_path / "train.tsv").write_bytes("\n".join(changed).encode("utf-8", "surrogateescape"))
        with pytest.raises(UnrollError, match=f"train.tsv: {told}"):
            read_rows(SENTIMENT, tmp_path_with_rest(tmp_path), folds=2, test_share=0.0, seed=1)


def tmp_path_with_rest(folder: Path) -> Path:
    (folder / "test.tsv").write_text("PhraseId\tSentenceId\tPhrase\n99\t99\tword\n")
    (folder / "sampleSubmission.csv").write_text("PhraseId,Sentiment\n99,2\n")
    return folder


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 7))
@settings(deadline=None)
def test_the_last_row_of_each_group_is_found(
    tmp_path_factory: pytest.TempPathFactory, groups: list[int], batch: int
) -> None:
    file = tmp_path_factory.mktemp("groups") / "rows.parquet"
    pd.DataFrame({"group": [f"g{group}" for group in groups]}, dtype=str).to_parquet(file)
    expected = sorted({group: number for number, group in enumerate(groups)}.values())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ondisk, "BATCH", batch)
        assert find_last_rows(file).tolist() == expected


def test_an_array_file_is_what_numpy_saves(tmp_path: Path) -> None:
    for dtype in (np.int64, np.int32):
        values = np.arange(1000, dtype=dtype)
        with ArrayFile(tmp_path / "pieces.npy", dtype) as file:
            for part in np.array_split(values, 7):
                file.append(part)
        np.save(tmp_path / "whole.npy", values)
        assert (tmp_path / "pieces.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


PEAK = """
import json, resource, runpy, sys
stage, sys.argv = sys.argv[1], ["stage", "sentiment"]
runpy.run_module(f"unroll.stages.{stage}", run_name="__main__", alter_sys=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_texts(tmp_path: Path) -> None:
    """Twenty times the rows take less than their texts' size more: what is kept of a row is some numbers."""
    peaks = {}
    for times in (1, 20):
        project = tmp_path / str(times)
        raw = project / "data/raw/sentiment"
        raw.mkdir(parents=True)
        (project / "params.yaml").write_text((ROOT / "params.yaml").read_text())
        size = write_large(raw, times)
        for stage in ("prepare", "tokenize"):
            done = subprocess.run([sys.executable, "-c", PEAK, stage], cwd=project, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            peaks[stage, times] = int(done.stdout.splitlines()[-1])
    assert size > 150
    for stage in ("prepare", "tokenize"):
        assert peaks[stage, 20] - peaks[stage, 1] < size / 2, peaks


def write_large(folder: Path, times: int) -> int:
    """Write ten thousand long phrases, so many times over; return the megabytes of it."""
    words = random.Random(1)
    with (folder / "train.tsv").open("w") as file:
        file.write("PhraseId\tSentenceId\tPhrase\tSentiment\n")
        for number in range(10_000 * times):
            text = " ".join(f"word{words.randrange(5000)}" for _ in range(100))
            file.write(f"{number}\t{number // 10}\t{text}\t{number % 5}\n")
    size = (folder / "train.tsv").stat().st_size // 2**20
    (folder / "test.tsv").write_text(f"PhraseId\tSentenceId\tPhrase\n{10**9}\t{10**9}\tword\n")
    (folder / "sampleSubmission.csv").write_text(f"PhraseId,Sentiment\n{10**9},2\n")
    return size
