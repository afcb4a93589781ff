"""Where raw files come from: a local folder, Kaggle, or a URL. Files are kept as served, found at any depth."""

import shutil
import sys
import zipfile
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path, PurePosixPath

import pooch
import requests

from unroll.core.errors import UnrollError, brief
from unroll.core.files import check_archive, check_written, describe_files, new_folder, read_json, write_json
from unroll.core.settings import DataConfig
from unroll.data.competition import Competition
from unroll.data.rows import SOURCE_RECORD, find_raw_files, raw_file_names
from unroll.data.tables import ZIP_ERRORS, served_names
from unroll.kaggle.client import connect, requests_about
from unroll.kaggle.retry import with_retries


def fetch(task: Competition, data: DataConfig, into: Path, cache: Path) -> str:
    """Write a task's raw files and source.json into an existing folder.

    Args:
        task: says which files there are, and where they are served.
        data: which source, the folder of a local one, and mirrors of the usual places.
        into: where the files go.
        cache: where downloads are kept; a complete one is not downloaded again, an interrupted one is resumed.

    Returns:
        The origin of the files.

    Raises:
        UnrollError: the files cannot be downloaded, or are not all there.
    """
    folder = Path(data.dir) / task.folder
    origin = str(folder)
    if data.source == "kaggle":
        mirror = data.mirrors.get(task.name)
        origin = find_origin(task, mirror)
        folder = cache / sha256(origin.encode()).hexdigest()[:12] / task.folder
        if not is_complete(folder):
            _download(task, mirror, origin, folder)
    elif not folder.is_dir():
        raise UnrollError(f"{folder}: no such folder; data.dir must contain {task.folder}/ for task {task.name}")
    for file in find_raw_files(task, folder):
        target = into / file.relative_to(folder)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, target)
    write_source_record(into, origin)
    return origin


def find_origin(task: Competition, mirror: str | None) -> str:
    """Return the address that a task's files are downloaded from.

    Raises:
        UnrollError: there is none.
    """
    if mirror is not None:
        return mirror if "://" in mirror else f"https://www.kaggle.com/datasets/{mirror}"
    if task.competition is not None:
        return f"https://www.kaggle.com/c/{task.competition}"
    if task.archive is None:
        raise UnrollError(
            f"competitions/{task.name}.yaml: archive: missing; with data.source kaggle a task that has no "
            "competition needs it, or an entry in data.mirrors"
        )
    return task.archive


def is_complete(folder: Path) -> bool:
    """Return whether a folder contains exactly the files that its source.json lists, each with its size and sha256."""
    try:
        recorded = read_json(folder / SOURCE_RECORD)["files"]
        return bool(recorded == describe_files(folder, but=SOURCE_RECORD))
    except (UnrollError, KeyError, TypeError, OSError):
        return False


def write_source_record(folder: Path, origin: str) -> None:
    """Write source.json: where the files come from, and the size and sha256 of each."""
    write_json(folder / SOURCE_RECORD, {"origin": origin, "files": describe_files(folder, but=SOURCE_RECORD)})


def check_source(folder: Path, outputs: Iterable[Path]) -> None:
    """Check that a folder of a person's files is none that the pipeline writes, lies in none and contains none.

    Raises:
        UnrollError: it is, does or has.
    """
    for output in outputs:
        source, written = folder.resolve(), output.resolve()
        if source.is_relative_to(written) or written.is_relative_to(source):
            where = "contains" if source in written.parents else "is inside"
            use = "move the files to a folder of their own"
            raise UnrollError(f"{folder}: {where} {output}, which the pipeline writes; {use}")


def check_replaceable(folder: Path) -> None:
    """Check that a folder of raw files can be replaced: it is missing, or holds only files that unroll wrote.

    Raises:
        UnrollError: it holds such a file; names it.
    """
    check_written(folder, record=SOURCE_RECORD)
    if not (folder / SOURCE_RECORD).is_file():
        return
    record = read_json(folder / SOURCE_RECORD)
    for file in describe_files(folder, but=SOURCE_RECORD):
        if file not in record["files"]:
            raise UnrollError(
                f"{folder / file['name']}: changed since unroll copied it from {record['origin']}; make the change "
                "there and delete this file, or give files of your own with `unroll data <folder>`"
            )


def _download(task: Competition, mirror: str | None, origin: str, folder: Path) -> None:
    """Download a task's files into a folder, which takes its name only when they are complete and checked."""
    partial = folder.with_name(f".{folder.name}.download")
    partial.mkdir(parents=True, exist_ok=True)
    if origin.startswith("https://www.kaggle.com/"):
        name = mirror or str(task.competition)
        archive = _download_from_kaggle(name, is_dataset=mirror is not None, partial=partial)
    else:
        archive = partial / "archive.zip"
        pooch.get_logger().setLevel("WARNING")
        options = {"path": partial, "fname": archive.name, "progressbar": sys.stderr.isatty()}
        try:
            with_retries(lambda: pooch.retrieve(origin, None, **options), origin)
        except (requests.RequestException, ValueError, OSError) as error:
            raise UnrollError(f"{origin}: cannot be downloaded ({brief(error)})") from None
    try:
        with new_folder(folder) as scratch:
            _extract(task, archive, scratch, origin)
            write_source_record(scratch, origin)
    finally:
        shutil.rmtree(partial)  # left there, a damaged archive would be taken as complete by its size


def _download_from_kaggle(name: str, *, is_dataset: bool, partial: Path) -> Path:
    """Download a competition's or a dataset's archive, or the rest of an interrupted download; return its path."""
    client = connect()
    download = client.dataset_download_files if is_dataset else client.competition_download_files
    with requests_about(name):
        with_retries(lambda: download(name, path=str(partial), quiet=not sys.stderr.isatty()), "Kaggle")
    return partial / f"{name.rpartition('/')[2]}.zip"


def download_competition(name: str, into: Path) -> Path:
    """Download all files of a competition into a folder of its name below a folder, unless it is there.

    Raises:
        UnrollError: the files cannot be downloaded.
    """
    folder, partial = into / name, into / f".{name}.download"
    if folder.is_dir():
        return folder
    partial.mkdir(parents=True, exist_ok=True)
    archive = _download_from_kaggle(name, is_dataset=False, partial=partial)
    try:
        with new_folder(folder) as scratch, zipfile.ZipFile(archive) as content:
            check_archive(content, archive.name)
            content.extractall(scratch)
    except ZIP_ERRORS as error:
        raise UnrollError(f"{name}: not a whole zip archive ({error}); try again") from None
    finally:
        shutil.rmtree(partial)
    return folder


def _extract(task: Competition, archive: Path, into: Path, origin: str) -> None:
    """Extract a task's files, plain or zipped, from the outermost folder of an archive that has all of them."""
    wanted = [Path(name) for name in raw_file_names(task)]
    try:
        with zipfile.ZipFile(archive) as content:
            check_archive(content, archive.name)
            members = {PurePosixPath(name): name for name in content.namelist()}
            for folder in sorted({member.parent for member in members}, key=lambda folder: len(folder.parts)):
                served = [[folder / name for name in served_names(path.name)] for path in wanted]
                found = [next((member for member in names if member in members), None) for names in served]
                if None not in found:
                    break
            else:
                inside = ", ".join(content.namelist()[:10]) or "nothing"
                names = [path.name for path in wanted[:5]] + ["…"] * (len(wanted) > 5)
                raise UnrollError(f"{origin}: expected a folder with {', '.join(names)}, found {inside}")
            for path, member in zip(wanted, filter(None, found), strict=True):
                target = into / path.with_name(member.name)
                target.parent.mkdir(exist_ok=True)
                with content.open(members[member]) as stream, target.open("wb") as file:
                    shutil.copyfileobj(stream, file)
    except ZIP_ERRORS as error:
        raise UnrollError(f"{origin}: not a whole zip archive ({error}); try again") from None
