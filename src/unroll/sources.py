"""Where raw files come from: a local folder, Kaggle, or a URL. Each source writes the files as served."""

import shutil
import zipfile
from pathlib import Path

import pooch
import requests

from unroll import kaggle
from unroll.config import DataConfig
from unroll.errors import UnrollError
from unroll.files import new_folder, sha256_of_file, write_json
from unroll.rows import raw_file
from unroll.tasks import LabelledFolder, Task


def fetch(task: Task, data: DataConfig, into: Path, cache: Path) -> str:
    """Write a task's raw files into an existing folder.

    Args:
        task: says which files there are, and where they are served.
        data: which source, and the folder of a local one.
        into: where the files go.
        cache: where downloads are kept, so that a file that is there is not downloaded again.

    Returns:
        The origin of the files.

    Raises:
        UnrollError: see copy_local, kaggle.download_competition and download_archive.
    """
    if data.source == "local":
        return copy_local(task, Path(data.dir), into)
    kept = cache / task.folder
    if task.remote.competition is not None:
        origin = f"https://www.kaggle.com/c/{task.remote.competition}"
        if not kept.is_dir():
            kaggle.download_competition(task.remote.competition, kept)
    else:
        origin = str(task.remote.archive_url)
        if not kept.is_dir():
            download_archive(task, kept)
    copy_local(task, cache, into)
    return origin


def download_archive(task: Task, into: Path) -> None:
    """Download a task's public archive and unpack its folder into one that takes its name only when it is whole.

    Raises:
        UnrollError: the archive cannot be had or does not hold the folder.
    """
    url, inside = str(task.remote.archive_url), str(task.remote.archive_folder)
    with new_folder(into) as scratch:
        try:
            unpack = pooch.Unzip(extract_dir="archive")  # beside the archive
            pooch.retrieve(url, known_hash=None, path=scratch, fname="archive.zip", processor=unpack, progressbar=True)
        except (requests.RequestException, ValueError, OSError, zipfile.BadZipFile) as error:
            raise UnrollError(f"{url}: cannot be downloaded ({' '.join(str(error).split())[:200]})") from None
        folder = scratch / "archive" / inside
        if not folder.is_dir():
            raise UnrollError(f"{url}: expected the folder {inside} in the archive")
        folder.rename(scratch / Path(inside).name)
        shutil.rmtree(scratch / "archive")
        (scratch / "archive.zip").unlink()


def copy_local(task: Task, data_dir: Path, into: Path) -> str:
    """Copy a task's raw files from a folder of the same layout.

    Returns:
        The origin: the folder's path.

    Raises:
        UnrollError: the folder or one of the files is not there, or a file is empty.
    """
    folder = data_dir / task.folder
    if not folder.is_dir():
        raise UnrollError(f"{folder}: no such folder; data.dir must hold {task.folder}/ for task {task.name}")
    if isinstance(task.files, LabelledFolder):
        names = folder / task.files.folder
        if not names.is_dir():
            raise UnrollError(f"{names}: no such folder; it should hold one {task.files.suffix} file a label")
        files = sorted(path for path in names.iterdir() if path.is_file())
        target = into / task.files.folder
    else:
        files = [raw_file(folder, name) for name in (task.files.train, task.files.test, task.files.sample_submission)]
        target = into
    target.mkdir(exist_ok=True)
    for file in files:
        if not file.stat().st_size:
            raise UnrollError(f"{file}: the file is empty")
        shutil.copyfile(file, target / file.name)
    return str(folder)


def write_source_record(folder: Path, origin: str) -> None:
    """Write source.json: where the files come from, and the size and sha256 of each."""
    files = [
        {"name": str(path.relative_to(folder)), "bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    write_json(folder / "source.json", {"origin": origin, "files": files})
