import gzip
import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.support.definitions import load_task
from unroll.core.errors import UnrollError
from unroll.data import tables
from unroll.data.competition import Competition, load_competition
from unroll.data.rows import TEST, TRAIN, read_rows, write_rows
from unroll.data.rows import load_task as load
from unroll.data.submission import check_submission, read_sample

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
    for number, language in enumerate(SURNAMES.outputs):
        shared = "\n \nshared" if number < 2 else ""
        (tmp_path / "names" / f"{language}.txt").write_text(f"Name{number}\n Szabó{number} {shared}\n")
    return tmp_path


def read(folder: Path, task: Competition = SENTIMENT, share: float = 0.0) -> pd.DataFrame:
    found, rows = read_rows(task, folder, folds=2, test_share=share, seed=1)
    if found.sample is not None:
        read_sample(found, folder, rows.loc[rows["part"] == TEST, "id"])
    return rows


def test_tables_are_read_letter_for_letter(raw: Path) -> None:
    rows = read(raw)
    assert rows["text"].tolist() == ["A film", " ", 'bad "film', "None", "nan film"]
    assert rows["row_id"].tolist() == [0, 1, 2, 3, 4]
    assert rows["id"].tolist() == ["1", "2", "3", "4", "5"]
    assert rows["true:Sentiment"].fillna(-1).tolist() == [2, 2, 0, -1, -1]
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
    assert read_sample(SENTIMENT, raw, pd.Series(["4", "5"]))["PhraseId"].tolist() == ["5", "4"]


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
        fold = read_rows(task, folder / task.folder, folds=5, test_share=share, seed=1)[1]["fold"]
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
        _, rows = read_rows(task, folder / task.folder, folds=5, test_share=share, seed=1)
        assert (rows.groupby("group")["fold"].nunique() == 1).all()
        assert (rows.groupby("group")["part"].nunique() == 1).all()
        assert set(rows["fold"]) == {-1, 0, 1, 2, 3, 4}


def test_names_are_grouped_whatever_their_case_and_stripped(names: Path) -> None:
    (names / "names/Czech.txt").write_text("SHARED\nNovák\n")
    rows = read(names, SURNAMES, share=0.3)
    assert not rows["text"].str.contains(r"^\s|\s$").any()
    assert rows.loc[rows["text"].str.casefold() == "shared", ["part", "fold"]].drop_duplicates().shape[0] == 1
    assert (rows["true:Language"] >= 0).all(), "labels of the test part are known here"
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
        (zip_badly, r"train.tsv.zip: not a whole archive"),
        (zip_flipped, r"train.tsv.zip: not a whole archive"),
        (zip_of_another, r"train.tsv.zip: expected train.tsv inside, found test.tsv"),
        (put("test.tsv", "PhraseId\tPhrase\n4\tx\n"), r"test.tsv: line 1: expected a column SentenceId"),
        (put("train.tsv", TRAIN_TSV + "9\t4\tx\t7\n"), r"train.tsv: line 5: Sentiment: found '7', expected one of 0"),
        (put("train.tsv", TRAIN_TSV + "9\t4\tx\t\n"), r"train.tsv: line 5: Sentiment: found '', expected one of 0"),
        (put("train.tsv", TRAIN_TSV + "2\t4\tx\t1\n"), r"train.tsv: line 5: PhraseId: found '2', expected a unique"),
        (put("train.tsv", TRAIN_TSV + "9\t4\tx\n"), r"train.tsv: line 5: expected 4 fields, .* found 3"),
        (put("train.tsv", TRAIN_TSV + "9\t4\tx\t1\t1\n"), r"train.tsv: line 5: expected 4 fields, .* found 5"),
        (put("train.tsv", TRAIN_TSV.encode() + b"9\t4\t\xe9\t1\n"), r"train.tsv: line 5: byte 0xe9 is not UTF-8"),
        (put("test.tsv", TEST_TSV + "1\t3\tx\n"), r"test.tsv: line 4: PhraseId: found '1', expected a value that"),
        (put("sampleSubmission.csv", "PhraseId,Sentiment\n4,2\n"), r"found 1 rows, expected 2, one for each test row"),
        (put("sampleSubmission.csv", SAMPLE_CSV + "8,2\n"), r"line 4: PhraseId: found '8', expected an id of"),
        (put("sampleSubmission.csv", "Id,Sentiment\n4,2\n"), r"line 1: expected the columns PhraseId, Sentiment"),
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


ESSAYS = 'essay,prompt,quality,tone\n"It is\ngood",p1,3.5,1e1\n,p2,-1,0\nNA,p1,2,.5\nlast,p3,0,1\n'
PROMPTS = "prompt,title\np1,On one\np2,On two\np3,Third\n"
SCORED: dict[str, Any] = {
    "name": "essays", "title": "essays", "folder": "essays", "train": "essays.csv", "text": ["title", "essay"],
    "group": "prompt", "join": {"file": "prompts.csv", "on": "prompt", "columns": ["title"]},
    "target": {"columns": ["quality", "tone"], "kind": "number"}, "metric": "mcrmse",
}  # fmt: skip


def test_numbers_of_a_joined_table_without_ids_or_a_test_file(tmp_path: Path) -> None:
    (tmp_path / "essays.csv").write_text(ESSAYS)
    (tmp_path / "prompts.csv").write_text(PROMPTS)
    task = Competition.model_validate(SCORED)
    _, rows = read_rows(task, tmp_path, folds=2, test_share=0.0, seed=1)
    assert rows["text"].tolist() == ["On one <sep> It is\ngood", "On two <sep> ", "On one <sep> NA", "Third <sep> last"]
    assert rows["true:quality"].tolist() == [3.5, -1, 2, 0]
    assert rows["true:tone"].tolist() == [10, 0, 0.5, 1]
    assert rows["id"].tolist() == ["1", "2", "3", "4"]
    assert rows.groupby("group")["fold"].nunique().max() == 1
    (tmp_path / "prompts.csv").write_text(PROMPTS.replace("p3", "p4"))
    with pytest.raises(
        UnrollError, match=r"essays.csv: line 6: prompt: found 'p3', expected a value that prompts.csv has"
    ):
        read_rows(task, tmp_path, folds=2, test_share=0.0, seed=1)
    (tmp_path / "prompts.csv").write_text(PROMPTS + "p1,again\n")
    with pytest.raises(UnrollError, match=r"prompts.csv: line 5: prompt: found 'p1', expected a unique value"):
        read_rows(task, tmp_path, folds=2, test_share=0.0, seed=1)
    (tmp_path / "essays.csv").write_text(ESSAYS.replace("-1", "n/a"))
    (tmp_path / "prompts.csv").write_text(PROMPTS)
    with pytest.raises(UnrollError, match=r"essays.csv: line 4: quality: found 'n/a', expected a number"):
        read_rows(task, tmp_path, folds=2, test_share=0.0, seed=1)


def test_several_labels_in_lines_of_json_with_ids_that_are_texts(tmp_path: Path) -> None:
    lines = [{"key": f"x{n}", "said": ["a b", None, "c"][n % 3], "rude": n % 2, "mild": 1 - n % 2} for n in range(6)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with gzip.open(tmp_path / "test.jsonl.gz", "wt") as file:
        file.write('{"key": "y", "said": "d"}\n')
    content = {"name": "x", "title": "x", "folder": "x", "train": "train.jsonl", "test": "test.jsonl", "id": "key",
               "text": ["said"], "metric": "auc",
               "target": {"columns": ["rude", "mild"], "kind": "multilabel"}}  # fmt: skip
    _, rows = read_rows(Competition.model_validate(content), tmp_path, folds=2, test_share=0.0, seed=1)
    assert rows["id"].tolist() == [f"x{number}" for number in range(6)] + ["y"]
    assert rows["text"].tolist()[:3] == ["a b", "", "c"]
    assert rows["true:rude"].tolist()[:6] == [0, 1, 0, 1, 0, 1]
    assert rows["part"].tolist() == [TRAIN] * 6 + [TEST]


def test_labels_that_the_definition_leaves_out_are_found_and_kept_with_the_rows(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes("text;mark\nna\xefve;10\nb;9\nc;10\nd;9\n".encode("latin-1"))
    definition = tmp_path / "marks.yaml"
    definition.write_text(
        "train: train.csv\ncsv: {separator: ';', encoding: latin-1}\ntext: [text]\n"
        "target: {columns: [mark], kind: ordinal}\nmetric: quadratic_kappa\n"
    )
    task, rows = read_rows(load_competition(definition), tmp_path, folds=2, test_share=0.0, seed=1)
    assert task.outputs == ("9", "10"), "numbers in the order of numbers"
    assert task.levels.tolist() == [9, 10]
    assert rows["text"][0] == "na\xefve"
    assert rows["true:mark"].tolist() == [1, 0, 1, 0]
    with pytest.raises(UnrollError, match=r"rows.parquet: no such file; run the stage"):
        load(definition, tmp_path / "rows.parquet")
    write_rows(rows, task, tmp_path / "rows.parquet")
    assert load(definition, tmp_path / "rows.parquet") == task


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ("metric: f1", "metric: found f1 with 3 labels, expected macro_f1 or micro_f1"),
        ("metric: accuracy\npositive: z", "positive: found 'z', expected one of target.labels, with kind classes"),
    ],
)
def test_labels_that_are_found_and_do_not_fit_the_definition_are_refused(
    tmp_path: Path, changed: str, told: str
) -> None:
    (tmp_path / "train.csv").write_text("text,mark\na,x\nb,y\nc,w\nd,x\n")
    definition = tmp_path / "marks.yaml"
    definition.write_text(f"train: train.csv\ntext: [text]\ntarget: {{columns: [mark], kind: classes}}\n{changed}\n")
    with pytest.raises(UnrollError) as error:
        read_rows(load_competition(definition), tmp_path, folds=2, test_share=0.0, seed=1)
    assert str(error.value) == f"competitions/marks.yaml: {told}"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"metric": "loss"}, "metric: found 'loss', expected one of rmse, mae, mcrmse, pearson, spearman"),
        ({"metric": "accuracy"}, "metric: found 'accuracy', expected one of rmse"),
        ({"target": {"columns": ["a", "b"], "kind": "classes"}}, "target.columns: found 2, expected one"),
        ({"sample": "s.csv"}, "test: missing; a sample submission needs a test file"),
        ({"positive": "1"}, "positive: found '1', expected one of target.labels, with kind classes"),
        ({"csv": {"encoding": "klingon"}}, "csv.encoding: found 'klingon', expected an encoding such as utf-8"),
        ({"csv": {"encoding": "base64"}}, "csv.encoding: found 'base64', expected an encoding such as utf-8"),
        ({"texts": ["a"]}, "texts: unknown key; known keys here: title, competition"),
    ],
)
def test_a_definition_that_cannot_be_is_refused(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    content = {name: value for name, value in SCORED.items() if name != "name"} | changed
    (tmp_path / "essays.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UnrollError) as error:
        load_competition(tmp_path / "essays.yaml")
    assert f"essays.yaml: {told}" in str(error.value)


def test_names_are_read_in_the_encoding_that_the_definition_says(names: Path) -> None:
    for path in (names / "names").iterdir():
        path.write_text(path.read_text(), encoding="latin-1")
    task = SURNAMES.model_copy(update={"csv": tables.CsvOptions(encoding="latin-1")})
    assert "Szab\xf30" in read(names, task)["text"].tolist()


def test_files_of_many_chunks_are_read_and_checked_as_one(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(raw)
    monkeypatch.setattr(tables, "CHUNK", 1)
    pd.testing.assert_frame_equal(read(raw), whole)
    sample = read_sample(SENTIMENT, raw, pd.Series(["4", "5"]))
    (raw / "made.csv").write_text(SAMPLE_CSV)
    assert check_submission(SENTIMENT, raw / "made.csv", sample)["Sentiment"].tolist() == ["2", "2"]
    (raw / "made.csv").write_text("PhraseId,Sentiment\n5,2\n5,2\n")
    with pytest.raises(UnrollError, match=r"made.csv: line 3: PhraseId: found '5', expected what the sample"):
        check_submission(SENTIMENT, raw / "made.csv", sample)
    (raw / "test.tsv").write_text(TEST_TSV + "1\t3\tx\n")
    with pytest.raises(UnrollError, match=r"test.tsv: line 4: PhraseId: found '1', expected a value that"):
        read(raw)
