import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.support.definitions import load_task
from unroll.core.errors import UnrollError
from unroll.data.rows import TEST, TRAIN, read_rows, read_sample_submission

SENTIMENT, SURNAMES = load_task("sentiment"), load_task("surnames")
TRAIN_TSV = 'PhraseId\tSentenceId\tPhrase\tSentiment\n1\t1\tA film\t2\n2\t1\t \t2\n3\t2\tbad "film\t0\n'
TEST_TSV = "PhraseId\tSentenceId\tPhrase\n4\t3\tNone\n5\t3\tnan film\n"
SAMPLE_CSV = "PhraseId,Sentiment\n5,2\n4,2\n"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for name, content in (("train.tsv", TRAIN_TSV), ("test.tsv", TEST_TSV), ("sampleSubmission.csv", SAMPLE_CSV)):
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.fixture
def names(tmp_path: Path) -> Path:
    (tmp_path / "names").mkdir()
    for number, language in enumerate(SURNAMES.labels):
        shared = "\n \nshared" if number < 2 else ""
        (tmp_path / "names" / f"{language}.txt").write_text(f"Name{number}\n Szabó{number} {shared}\n")
    return tmp_path


def read(folder: Path, task: object = SENTIMENT, share: float = 0.0) -> pd.DataFrame:
    return read_rows(task, folder, folds=2, test_share=share, seed=1)  # type: ignore[arg-type]


def test_tables_are_read_letter_for_letter(raw: Path) -> None:
    rows = read(raw)
    assert rows["text"].tolist() == ["A film", " ", 'bad "film', "None", "nan film"]
    assert rows["row_id"].tolist() == [1, 2, 3, 4, 5]
    assert rows["label"].tolist() == [2, 2, 0, -1, -1]
    assert rows["part"].tolist() == [TRAIN] * 3 + [TEST] * 2
    assert rows["group"].tolist() == ["1", "1", "2", "3", "3"]
    assert sorted(rows["fold"][:3]) in ([0, 0, 1], [0, 1, 1])
    assert rows["fold"][3:].tolist() == [-1, -1]


def test_zipped_tables_read_as_plain_ones(raw: Path) -> None:
    plain = read(raw)
    for name in ("train.tsv", "test.tsv"):
        with zipfile.ZipFile(raw / f"{name}.zip", "w") as archive:
            archive.write(raw / name, name)
        (raw / name).unlink()
    pd.testing.assert_frame_equal(read(raw), plain)


def test_the_sample_submissions_order_is_kept(raw: Path) -> None:
    assert read_sample_submission(SENTIMENT, raw).tolist() == [5, 4]


def test_columns_are_found_by_name_in_a_csv_with_quotes(raw: Path) -> None:
    plain = read(raw)
    lines = ["Extra,Sentiment,Phrase,PhraseId,SentenceId", "x,2,A film,1,1", "x,2, ,2,1", 'x,0,"bad ""film",3,2']
    (raw / "train.csv").write_text("\r\n".join(lines))
    as_csv = SENTIMENT.model_copy(update={"train": "train.csv"})
    pd.testing.assert_frame_equal(read(raw, as_csv), plain)


def test_without_a_group_rows_of_equal_text_share_a_fold(raw: Path) -> None:
    (raw / "train.tsv").write_text(TRAIN_TSV + "7\t1\tA FILM\t1\n8\t4\tnone\t1\n")
    rows = read(raw, SENTIMENT.model_copy(update={"group": None}))
    train = rows[rows["part"] == TRAIN]
    assert train["group"].tolist() == ["a film", " ", 'bad "film', "a film", "none"]
    assert train.groupby("group")["fold"].nunique().max() == 1


def test_the_folds_of_the_sample_are_these() -> None:
    """The committed dvc.lock depends on them."""
    folder = Path(__file__).parents[2] / "data/sample"
    for task, share, sizes, first, sha256 in (
        (SENTIMENT, 0.0, [1959, 1944, 1953, 1951, 1961], [3, 3, 3, 3, 3, 2, 2, 2, 2, 2], "8503814a38d5101a"),
        (SURNAMES, 0.1, [442, 442, 443, 442, 441], [3, 2, 1, 4, 1, 1, 0, 2, 4, 3], "8a500dcfe85fa870"),
    ):
        fold = read_rows(task, folder / task.folder, folds=5, test_share=share, seed=1)["fold"]
        assert [(fold == number).sum() for number in range(5)] == sizes
        assert fold[:40:4].tolist() == first
        assert hashlib.sha256(fold.to_numpy().tobytes()).hexdigest().startswith(sha256)


def test_files_of_the_operating_system_among_the_names_are_no_labels(names: Path) -> None:
    plain = read(names, SURNAMES)
    for name in (".DS_Store", "._Greek.txt", "desktop.ini", "Thumbs.db", "Greek.txt~"):
        (names / "names" / name).write_text("x\n")
    pd.testing.assert_frame_equal(read(names, SURNAMES), plain)


def test_no_group_crosses_folds_on_the_sample() -> None:
    folder = Path(__file__).parents[2] / "data/sample"
    for task, share in ((SENTIMENT, 0.0), (SURNAMES, 0.1)):
        rows = read_rows(task, folder / task.folder, folds=5, test_share=share, seed=1)
        assert (rows.groupby("group")["fold"].nunique() == 1).all()
        assert (rows.groupby("group")["part"].nunique() == 1).all()
        assert set(rows["fold"]) == {-1, 0, 1, 2, 3, 4}


def test_names_are_grouped_whatever_their_case_and_stripped(names: Path) -> None:
    (names / "names/Czech.txt").write_text("SHARED\nNovák\n")
    rows = read(names, SURNAMES, share=0.3)
    assert not rows["text"].str.contains(r"^\s|\s$").any()
    assert rows.loc[rows["text"].str.casefold() == "shared", ["part", "fold"]].drop_duplicates().shape[0] == 1
    assert (rows["label"] >= 0).all(), "labels of the test part are known here"
    assert 0.15 < (rows["part"] == TEST).mean() < 0.45


Break = Callable[[Path], object]


def put(name: str, content: str | bytes) -> Break:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def zip_badly(folder: Path) -> None:
    with zipfile.ZipFile(folder / "train.tsv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.tsv", TRAIN_TSV * 100)
    (folder / "train.tsv").unlink()
    path = folder / "train.tsv.zip"
    path.write_bytes(path.read_bytes()[:100])


def zip_flipped(folder: Path) -> None:
    with zipfile.ZipFile(folder / "train.tsv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.tsv", TRAIN_TSV * 100)
    (folder / "train.tsv").unlink()
    path = folder / "train.tsv.zip"
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(bytes(content))


def zip_of_another(folder: Path) -> None:
    with zipfile.ZipFile(folder / "train.tsv.zip", "w") as archive:
        archive.writestr("test.tsv", TEST_TSV)
    (folder / "train.tsv").unlink()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "train.tsv").unlink(), r"train.tsv: no such file, and no train.tsv.zip"),
        (put("train.tsv", ""), r"train.tsv: the file is empty"),
        (put("train.tsv", TRAIN_TSV.splitlines()[0]), r"train.tsv: has a header and no rows"),
        (zip_badly, r"train.tsv.zip: not a whole zip archive"),
        (zip_flipped, r"train.tsv.zip: not a whole zip archive"),
        (zip_of_another, r"train.tsv.zip: expected train.tsv inside, found test.tsv"),
        (put("test.tsv", "PhraseId\tPhrase\n4\tx\n"), r"test.tsv: line 1: expected a column SentenceId"),
        (put("train.tsv", TRAIN_TSV + "9\t4\tx\t7\n"), r"train.tsv: line 5: Sentiment: found '7', expected one of 0"),
        (put("train.tsv", TRAIN_TSV + "9\t4\tx\t\n"), r"train.tsv: line 5: Sentiment: found '', expected one of 0"),
        (put("train.tsv", TRAIN_TSV + "2\t4\tx\t1\n"), r"train.tsv: line 5: PhraseId: found '2', expected a value"),
        (put("train.tsv", TRAIN_TSV + "x9\t4\tx\t1\n"), r"train.tsv: line 5: PhraseId: found 'x9', expected a whole"),
        (put("train.tsv", TRAIN_TSV + "9\t4\tx\n"), r"train.tsv: line 5: expected 4 fields, .* found 3"),
        (put("train.tsv", TRAIN_TSV + "9\t4\tx\t1\t1\n"), r"train.tsv: line 5: expected 4 fields, .* found 5"),
        (put("train.tsv", TRAIN_TSV.encode() + b"9\t4\t\xe9\t1\n"), r"train.tsv: line 5: byte 0xe9 is not UTF-8"),
        (put("test.tsv", TEST_TSV + "1\t3\tx\n"), r"test.tsv: line 4: PhraseId: found '1', expected a value that"),
        (put("test.tsv", TEST_TSV + "6\t2\tx\n"), r"test.tsv: line 4: SentenceId: found '2', expected a value"),
        (put("sampleSubmission.csv", "PhraseId,Sentiment\n4,2\n"), r"each once; PhraseId 5 is"),
        (put("sampleSubmission.csv", SAMPLE_CSV + "8,2\n"), r"Submission.csv: expected .* PhraseId 8 is"),
        (put("sampleSubmission.csv", "Id,Sentiment\n4,2\n"), r"Submission.csv: line 1: expected a column Phra"),
    ],
)  # fmt: skip
def test_a_bad_table_is_refused_with_file_and_line(raw: Path, spoil: Break, told: str) -> None:
    spoil(raw)
    with pytest.raises(UnrollError, match=told):
        read(raw)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (put("names/Portugese.txt", "Sousa\n"), r"Portugese.txt: not a label of surnames; expected Arabic, Chinese"),
        (lambda folder: (folder / "names/Greek.txt").unlink(), r"Greek.txt: no such file"),
        (put("names/Greek.txt", " \n"), r"Greek.txt: the file is empty"),
        (put("names/Greek.txt", b"ok\n\xff\n"), r"Greek.txt: line 2: byte 0xff is not UTF-8"),
        (lambda folder: (folder / "names").rename(folder / "nomen"), r"names: no such folder"),
    ],
)
def test_a_bad_folder_of_names_is_refused_with_its_file(names: Path, spoil: Break, told: str) -> None:
    spoil(names)
    with pytest.raises(UnrollError, match=told):
        read(names, SURNAMES)
