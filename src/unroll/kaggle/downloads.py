"""Where raw files come from: a local folder, Kaggle, or a URL. Each source writes the files as served."""

import shutil
import zipfile
import zlib
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pooch
import requests

from unroll.core.errors import UnrollError
from unroll.core.files import check_archive, describe_files, new_folder, read_json, write_json
from unroll.core.retry import with_retries
from unroll.core.settings import DataConfig
from unroll.data.competition import Competition
from unroll.data.rows import raw_file
from unroll.kaggle import client as kaggle

SOURCE_RECORD = "source.json"


def fetch(task: Competition, data: DataConfig, into: Path, cache: Path) -> str:
    """Write a task's raw files into an existing folder.

    Args:
        task: says which files there are, and where they are served.
        data: which source, the folder of a local one, and mirrors of the usual places.
        into: where the files go.
        cache: where downloads are kept, so that a file that is there and whole is not downloaded again.

    Returns:
        The origin of the files.

    Raises:
        UnrollError: see copy_local, kaggle.download_competition and download_archive.
    """
    if data.source == "local":
        return copy_local(task, Path(data.dir), into)
    mirror = data.mirrors.get(task.name)
    origin = find_origin(task, mirror)
    kept = cache / sha256(origin.encode()).hexdigest()[:12] / task.folder
    if not is_whole(kept):
        if mirror is not None and not _is_url(mirror):
            kaggle.download_dataset(mirror, kept)
            _keep_folder(task, kept, mirror)
        elif mirror is None and task.competition is not None:
            kaggle.download_competition(task.competition, kept)
        else:
            download_archive(task, origin, kept, task.archive.rows if mirror is None and task.archive else None)
        write_source_record(kept, origin)
    copy_local(task, kept.parent, into)
    return origin


def find_origin(task: Competition, mirror: str | None) -> str:
    """Return the address that a task's files are downloaded from."""
    if mirror is not None:
        return mirror if _is_url(mirror) else f"https://www.kaggle.com/datasets/{mirror}"
    if task.competition is not None:
        return f"https://www.kaggle.com/c/{task.competition}"
    return task.archive.url if task.archive else f"nowhere: competitions/{task.name}.yaml names no archive"


def _is_url(mirror: str) -> bool:
    return mirror.startswith(("https://", "http://"))


def is_whole(folder: Path) -> bool:
    """Return whether a folder holds just the files that its source.json names, each with its size and sha256."""
    if not (folder / SOURCE_RECORD).is_file():
        return False
    try:
        recorded = read_json(folder / SOURCE_RECORD)["files"]
        return bool(recorded == describe_files(folder, but=SOURCE_RECORD))
    except (UnrollError, KeyError, TypeError, OSError):
        return False


def download_archive(task: Competition, url: str, into: Path, expected_rows: Mapping[str, int] | None) -> None:
    """Download a task's public archive and unpack its folder into one that takes its name only when it is whole.

    Args:
        task: names the folder inside the archive, and the files in that.
        url: of the archive.
        into: the folder to write.
        expected_rows: how many lines each label's file must have; None takes any number.

    Raises:
        UnrollError: the archive cannot be had, does not hold the files, or a file has another number of lines.
    """
    with new_folder(into) as scratch:
        try:
            with_retries(
                lambda: pooch.retrieve(
                    url, known_hash=None, path=scratch, fname="archive.zip", processor=_unpack, progressbar=True
                ),
                url,
            )
        except (requests.RequestException, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UnrollError(f"{url}: cannot be downloaded ({' '.join(str(error).split())[:200]})") from None
        _keep_folder(task, scratch, url)
        if task.is_folder_of_labels and expected_rows is not None:
            _check_counts(task, scratch, url, expected_rows)


def _unpack(archive: str, action: str, downloader: Any) -> Any:
    with zipfile.ZipFile(archive) as content:
        check_archive(content, Path(archive).name)
    return pooch.Unzip(extract_dir="archive")(archive, action, downloader)  # beside the archive


def _keep_folder(task: Competition, folder: Path, origin: str) -> None:
    """Find the labels' files wherever they were packed, and keep them alone, in the folder that they have here."""
    if not task.is_folder_of_labels:
        return
    wanted = {f"{label}{Path(task.train).suffix}" for label in task.labels}
    places = {path.parent for path in folder.rglob(f"*{Path(task.train).suffix}") if path.name in wanted}
    whole = [place for place in sorted(places) if wanted <= {path.name for path in place.iterdir()}]
    if not whole:
        raise UnrollError(
            f"{origin}: expected a folder with the {len(wanted)} files {min(wanted)} to {max(wanted)}, found none"
        )
    aside = folder / ".kept"
    aside.mkdir()
    for name in sorted(wanted):
        (whole[0] / name).rename(aside / name)
    for path in set(folder.iterdir()) - {aside}:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    aside.rename((folder / task.train).parent)


def _check_counts(task: Competition, folder: Path, origin: str, expected: Mapping[str, int]) -> None:
    for label, rows in expected.items():
        path = (folder / task.train).parent / f"{label}{Path(task.train).suffix}"
        found = sum(1 for line in path.read_bytes().splitlines() if line.strip())
        if found != rows:
            raise UnrollError(
                f"{origin}: {path.name}: expected {rows:,} lines, found {found:,}; the archive is another one"
            )


def copy_local(task: Competition, data_dir: Path, into: Path) -> str:
    """Copy a task's raw files from a folder of the same layout.

    Returns:
        The origin: the folder's path.

    Raises:
        UnrollError: the folder or one of the files is not there, or a file is empty.
    """
    folder = data_dir / task.folder
    if not folder.is_dir():
        raise UnrollError(f"{folder}: no such folder; data.dir must hold {task.folder}/ for task {task.name}")
    if task.is_folder_of_labels:
        names = (folder / task.train).parent
        if not names.is_dir():
            raise UnrollError(f"{names}: no such folder; it should hold one {Path(task.train).suffix} file a label")
        files = sorted(path for path in names.iterdir() if path.is_file())
        target = (into / task.train).parent
    else:
        files = [raw_file(folder, name) for name in filter(None, (task.train, task.test, task.sample))]
        target = into
    target.mkdir(exist_ok=True)
    for file in files:
        if not file.stat().st_size:
            raise UnrollError(f"{file}: the file is empty")
        shutil.copyfile(file, target / file.name)
    return str(folder)


def write_source_record(folder: Path, origin: str) -> None:
    """Write source.json: where the files come from, and the size and sha256 of each."""
    write_json(folder / SOURCE_RECORD, {"origin": origin, "files": describe_files(folder, but=SOURCE_RECORD)})
