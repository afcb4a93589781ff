import io
import json
import zipfile
from pathlib import Path

import pytest

from tests.support.definitions import load_task
from tests.support.served import Served
from unroll.core.errors import UnrollError
from unroll.core.files import sha256_of_file
from unroll.core.settings import DataConfig
from unroll.data.competition import Archive
from unroll.kaggle.downloads import copy_local, fetch, write_source_record

SAMPLE = Path(__file__).parents[2] / "data/sample"
SENTIMENT, SURNAMES = load_task("sentiment"), load_task("surnames")
assert SURNAMES.archive is not None
ROWS = SURNAMES.archive.rows or {}


def test_files_are_copied_as_they_are_and_recorded(tmp_path: Path) -> None:
    origin = copy_local(SENTIMENT, SAMPLE, tmp_path)
    write_source_record(tmp_path, origin)
    record = json.loads((tmp_path / "source.json").read_text())
    assert record["origin"] == str(SAMPLE / SENTIMENT.folder)
    assert [file["name"] for file in record["files"]] == ["sampleSubmission.csv", "test.tsv", "train.tsv"]
    for file in record["files"]:
        original = SAMPLE / SENTIMENT.folder / file["name"]
        assert file["sha256"] == sha256_of_file(original)
        assert file["bytes"] == original.stat().st_size == (tmp_path / file["name"]).stat().st_size


@pytest.mark.parametrize("task", [SENTIMENT, SURNAMES], ids=lambda task: task.name)
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, task: object) -> None:
    with pytest.raises(UnrollError, match=r"no such folder; data.dir must hold"):
        copy_local(task, tmp_path / "nowhere", tmp_path)  # type: ignore[arg-type]


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "data" / SENTIMENT.folder
    folder.mkdir(parents=True)
    for name in ("train.tsv", "test.tsv", "sampleSubmission.csv"):
        (folder / name).touch()
    (tmp_path / "raw").mkdir()
    with pytest.raises(UnrollError, match=r"train.tsv: the file is empty"):
        copy_local(SENTIMENT, tmp_path / "data", tmp_path / "raw")


def archive_of(folder: str, *, without: str | None = None, more: int = 0) -> bytes:
    """Return an archive as the public one, with other names: the right number of lines in each file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for language, rows in ROWS.items():
            if language != without:
                archive.writestr(f"{folder}/{language}.txt", "Aa\n" * (rows + more))
        archive.writestr("data/eng-fra.txt", "Go.\tVa !\n")
    return stream.getvalue()


REMOTE = DataConfig(source="kaggle", dir="unused", mirrors={})


def test_an_archive_is_downloaded_once_and_kept(
    tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    address, files, asked = served
    files["/data.zip"] = archive_of("data/names")
    task = SURNAMES.model_copy(update={"archive": Archive(url=f"{address}/data.zip", rows=ROWS)})
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert fetch(task, REMOTE, tmp_path / name, Path("cache")) == f"{address}/data.zip"
        assert len(list((tmp_path / name / "names").iterdir())) == 18
    assert asked == ["/data.zip"]
    next(Path("cache").rglob("Irish.txt")).write_text("Aa\n")
    (tmp_path / "three").mkdir()
    fetch(task, REMOTE, tmp_path / "three", Path("cache"))
    assert asked == ["/data.zip"] * 2, "a damaged file is downloaded again"
    assert (tmp_path / "three/names/Irish.txt").read_text() == "Aa\n" * 232
    assert not list(tmp_path.rglob("eng-fra.txt"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be downloaded"),
        (archive_of("data/names")[:-40], "cannot be downloaded"),
        (archive_of("names", without="Irish"), "expected a folder with the 18 files Arabic.txt to Vietnamese.txt"),
        (archive_of("names", more=1), "Arabic.txt: expected 2,000 lines, found 2,001; the archive is another one"),
    ],
)
def test_a_bad_archive_is_refused_and_leaves_nothing(
    tmp_path: Path, served: Served, content: bytes | None, told: str
) -> None:
    address, files, _ = served
    if content is not None:
        files["/data.zip"] = content
    task = SURNAMES.model_copy(update={"archive": Archive(url=f"{address}/data.zip", rows=ROWS)})
    (tmp_path / "raw").mkdir()
    with pytest.raises(UnrollError, match=told):
        fetch(task, REMOTE, tmp_path / "raw", tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_mirror_takes_the_place_of_the_usual_archive_and_may_have_other_counts(
    tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    address, files, _ = served
    files["/mine.zip"] = archive_of("deep/down/languages", more=2)
    data = DataConfig(source="kaggle", dir="unused", mirrors={"surnames": f"{address}/mine.zip"})
    (tmp_path / "raw").mkdir()
    assert fetch(SURNAMES, data, tmp_path / "raw", Path("cache")) == f"{address}/mine.zip"
    assert len(list((tmp_path / "raw/names").iterdir())) == 18
