import io
import json
import random
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.kaggle.conftest import SAMPLE
from tests.support.definitions import load_task
from tests.support.kaggle_service import SLUG, TOKEN, Fault, Service, zip_folder
from tests.support.served import Served
from unroll.core.errors import UnrollError
from unroll.core.files import sha256_of_file
from unroll.core.settings import DataConfig
from unroll.kaggle.downloads import check_replaceable, check_source, fetch

# pooch leaves the connection of a response that is an error to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SENTIMENT, SURNAMES = load_task("sentiment"), load_task("surnames")
TABLES = ["sampleSubmission.csv", "test.tsv", "train.tsv"]
REMOTE = DataConfig(source="kaggle", dir="unused", mirrors={})


@pytest.fixture(autouse=True)
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


def local(folder: Path) -> DataConfig:
    return DataConfig(source="local", dir=str(folder), mirrors={})


def download(task: object = SENTIMENT, data: DataConfig = REMOTE) -> str:
    return fetch(task, data, Path("raw"), Path("cache"))  # type: ignore[arg-type]


def refused(task: object = SENTIMENT, data: DataConfig = REMOTE) -> str:
    with pytest.raises(UnrollError) as error:
        download(task, data)
    assert not [path for path in Path("cache").rglob("*") if path.is_file()]
    assert not list(Path("raw").iterdir())
    assert TOKEN not in str(error.value)
    return str(error.value)


def test_files_are_copied_as_they_are_and_recorded(raw: Path) -> None:
    origin = download(SENTIMENT, local(SAMPLE.parent))
    record = json.loads((raw / "source.json").read_text())
    assert record["origin"] == origin == str(SAMPLE)
    assert [file["name"] for file in record["files"]] == TABLES
    for file in record["files"]:
        original = SAMPLE / file["name"]
        assert file["sha256"] == sha256_of_file(original)
        assert file["bytes"] == original.stat().st_size == (raw / file["name"]).stat().st_size


@pytest.mark.parametrize("task", [SENTIMENT, SURNAMES], ids=lambda task: task.name)
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, task: object) -> None:
    assert "no such folder; data.dir must contain" in refused(task, local(tmp_path / "nowhere"))


def test_names_of_the_operating_system_are_not_copied_and_a_misspelt_label_is_refused(
    tmp_path: Path, raw: Path
) -> None:
    shutil.copytree(SAMPLE.parent / "surnames", tmp_path / "data/surnames")
    names = tmp_path / "data/surnames/names"
    for name in (".DS_Store", "._Greek.txt", "desktop.ini", "Greek.txt~"):
        (names / name).write_text("x")
    download(SURNAMES, local(tmp_path / "data"))
    assert len(list((raw / "names").iterdir())) == 18
    shutil.rmtree(raw)
    raw.mkdir()
    (names / "Portugese.txt").write_text("Sousa\n")
    assert "names/Portugese.txt: not a label of surnames; expected Arabic" in refused(
        SURNAMES, local(tmp_path / "data")
    )


def test_a_competition_is_downloaded_once_and_kept(service: Service, raw: Path) -> None:
    assert download() == f"https://www.kaggle.com/c/{SLUG}"
    assert sorted(path.name for path in raw.iterdir()) == sorted([*TABLES, "source.json"])
    for name in TABLES:
        assert (raw / name).read_bytes() == (SAMPLE / name).read_bytes()
    download()
    assert service.asked.count("DownloadDataFiles") == 1
    next(Path("cache").rglob("train.tsv")).write_text("damaged")
    download()
    assert service.asked.count("DownloadDataFiles") == 2
    assert (raw / "train.tsv").read_bytes() == (SAMPLE / "train.tsv").read_bytes()


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        ((403, "You must accept this competition's rules"), f"https://www.kaggle.com/c/{SLUG}/rules"),
        ((404, "Not found"), "404: there is no competition or dataset of this name"),
        ((400, "Bad Request"), "400: Bad Request"),
    ],
)
def test_a_refusal_is_one_sentence_with_the_next_step_and_leaves_nothing(
    service: Service, refusal: tuple[int, str], told: str
) -> None:
    service.refusal = refusal
    assert told in refused()


def test_an_unknown_competition_is_named(service: Service) -> None:
    task = SENTIMENT.model_copy(update={"competition": "no-such-competition"})
    assert refused(task).startswith("Kaggle: no-such-competition: 404: there is no competition or dataset")


def test_passing_faults_are_waited_out(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    service.faults = [
        Fault("IntrospectToken", 500),
        Fault("DownloadDataFiles", 429, "Too many requests", {"Retry-After": "2"}),
        Fault("DownloadDataFiles", 500, "Internal error"),
    ]
    download()
    errors = capsys.readouterr().err
    assert "Kaggle answered 429; trying again in 2 s (1 of 4)" in errors
    assert "Kaggle answered 500; trying again in 2 s (2 of 4)" in errors
    assert service.asked.count("DownloadDataFiles") == 3


def test_a_long_wait_is_left_to_the_user(service: Service) -> None:
    service.faults = [Fault("DownloadDataFiles", 429, "Too many", {"Retry-After": "7200"})]
    assert "429: too many requests; wait 7200 s and try again" in refused()
    assert service.asked.count("DownloadDataFiles") == 1


@pytest.fixture
def large(tmp_path: Path, service: Service) -> bytes:
    """An archive that takes more than one piece to download."""
    folder = tmp_path / "large"
    shutil.copytree(SAMPLE, folder)
    (folder / "noise.bin").write_bytes(random.Random(1).randbytes(5_000_000))
    service.archive = zip_folder(folder)
    return service.archive


def test_a_download_that_is_cut_off_is_resumed(service: Service, large: bytes, raw: Path) -> None:
    service.cut_after = 3_000_000
    download()
    assert (raw / "train.tsv").read_bytes() == (SAMPLE / "train.tsv").read_bytes()
    assert len(service.ranges) == 1
    assert 1_000_000 < int(service.ranges[0].removeprefix("bytes=").rstrip("-")) <= 3_000_000
    assert not list(Path("cache").rglob("noise.bin")), "only the task's files are kept"
    assert not list(Path("cache").rglob("*.download"))


def test_a_download_that_was_killed_is_resumed_by_the_next_call(service: Service, large: bytes, raw: Path) -> None:
    download()
    [kept] = Path("cache").glob("*/*")
    shutil.rmtree(kept)
    left = kept.with_name(f".{SLUG}.download")
    left.mkdir()
    (left / f"{SLUG}.zip").write_bytes(large[:2_000_000])
    (left / f"{SLUG}.zip.kaggle-partial").write_text(json.dumps({"validator": f'"{hash(large)}"', "size": len(large)}))
    download()
    assert service.ranges == ["bytes=2000000-"]
    assert (raw / "train.tsv").read_bytes() == (SAMPLE / "train.tsv").read_bytes()


def test_a_damaged_archive_is_refused_and_not_kept(service: Service) -> None:
    whole = service.archive
    for damaged in (whole[:-100], whole[:300] + b"\xff" * 40 + whole[340:]):
        service.archive = damaged
        assert "not a whole zip archive" in refused()
    service.archive = whole
    download()


def test_an_archive_without_the_tasks_files_is_refused_and_not_kept(service: Service) -> None:
    service.archive = zip_folder(SAMPLE.parent / "surnames")
    assert "expected a folder with train.tsv, test.tsv, sampleSubmission.csv, found names/Arabic.txt" in refused()


def test_files_are_found_at_any_depth_and_in_zips_of_their_own(service: Service, raw: Path) -> None:
    stream, inner = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.write(SAMPLE / "train.tsv", "train.tsv")
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("train.tsv", "another")
        archive.writestr("a/b/train.tsv.zip", inner.getvalue())
        for name in ("test.tsv", "sampleSubmission.csv"):
            archive.write(SAMPLE / name, f"a/b/{name}")
    service.archive = stream.getvalue()
    download()
    assert sorted(path.name for path in raw.iterdir()) == [
        "sampleSubmission.csv", "source.json", "test.tsv", "train.tsv.zip",
    ]  # fmt: skip


def archive_of(folder: str, *, without: str | None = None) -> bytes:
    """Return an archive as the public one, with other names."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for language in SURNAMES.outputs:
            if language != without:
                archive.writestr(f"{folder}/{language}.txt", "Aa\n" * 9)
        archive.writestr("data/eng-fra.txt", "Go.\tVa !\n")
    return stream.getvalue()


def test_an_archive_is_downloaded_once_and_kept(served: Served) -> None:
    address, files, asked = served
    files["/data.zip"] = archive_of("data/names")
    task = SURNAMES.model_copy(update={"archive": f"{address}/data.zip"})
    for _ in range(2):
        assert download(task) == f"{address}/data.zip"
        assert len(list(Path("raw/names").iterdir())) == 18
    assert asked == ["/data.zip"]
    next(Path("cache").rglob("Irish.txt")).write_text("Aa\n")
    download(task)
    assert asked == ["/data.zip"] * 2, "a damaged file is downloaded again"
    assert Path("raw/names/Irish.txt").read_text() == "Aa\n" * 9
    assert not list(Path().rglob("eng-fra.txt"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be downloaded"),
        (archive_of("data/names")[:-40], "not a whole zip archive"),
        (archive_of("names", without="Irish"), "Czech.txt, Dutch.txt, English.txt, …, found names/Arabic.txt"),
    ],
)
def test_a_bad_archive_is_refused_and_leaves_nothing(served: Served, content: bytes | None, told: str) -> None:
    address, files, _ = served
    if content is not None:
        files["/data.zip"] = content
    task = SURNAMES.model_copy(update={"archive": f"{address}/data.zip"})
    assert told in refused(task)


def test_a_mirror_replaces_the_usual_archive(served: Served) -> None:
    address, files, _ = served
    files["/mine.zip"] = archive_of("deep/down/languages")
    data = DataConfig(source="kaggle", dir="unused", mirrors={"surnames": f"{address}/mine.zip"})
    assert download(SURNAMES, data) == f"{address}/mine.zip"
    assert len(list(Path("raw/names").iterdir())) == 18


def test_a_dataset_of_kaggle_can_be_a_mirror(service: Service) -> None:
    service.datasets["student/surnames"] = zip_folder(SAMPLE.parent / "surnames")
    data = DataConfig(source="kaggle", dir="unused", mirrors={"surnames": "student/surnames"})
    assert download(SURNAMES, data) == "https://www.kaggle.com/datasets/student/surnames"
    assert len(list(Path("raw/names").iterdir())) == 18


def test_a_file_that_somebody_put_among_the_raw_files_is_not_deleted(raw: Path) -> None:
    check_replaceable(Path("nowhere"))
    download(SENTIMENT, local(SAMPLE.parent))
    check_replaceable(raw)
    (raw / "train.tsv").unlink()
    check_replaceable(raw)
    (raw / "names").mkdir()
    (raw / "names/Mine.txt").write_text("mine\n")
    with pytest.raises(UnrollError, match=r"raw/names/Mine.txt: not written by unroll, which replaces the whole of"):
        check_replaceable(raw)
    (raw / "names/Mine.txt").unlink()
    (raw / "test.tsv").write_text("mine\n")
    with pytest.raises(UnrollError, match=rf"raw/test.tsv: changed since unroll copied it from {SAMPLE}; make"):
        check_replaceable(raw)


@pytest.mark.parametrize(
    ("place", "where"),
    [
        ("data/raw", "is inside data/raw"), ("data/raw/mine", "is inside data/raw"), ("reports/x", "is inside reports"),
        ("data", "contains data/raw"), (".", "contains data/raw"),
    ],
)  # fmt: skip
def test_the_pipelines_own_folders_are_no_source(place: str, where: str) -> None:
    with pytest.raises(UnrollError, match=f"^{place}: {where}, which the pipeline writes; move the files to a folder"):
        check_source(Path(place), [Path("data/raw"), Path("reports")])
