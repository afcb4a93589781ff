"""Atomic writes of files and folders, JSON, and the sha256 of what was written."""

import glob
import hashlib
import json
import os
import shutil
import stat
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from unroll.core.errors import UnrollError

MANIFEST = "manifest.json"
MAX_UNPACKED_BYTES, MAX_COMPRESSION = 64 << 20, 200  # text compresses three to ten times


def sha256_of(*paths: Path) -> str:
    """Return the hexadecimal sha256 over the digests of files, and of all files below folders, sorted by name."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(bytes.fromhex(sha256_of_file(file)))
    return digest.hexdigest()


def sha256_of_array(*arrays: Any) -> str:
    """Return the hexadecimal sha256 over the bytes of contiguous arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(memoryview(array).cast("B"))
    return digest.hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the hexadecimal sha256 of one file, as `sha256sum` prints it."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a scratch folder beside `path`, and rename it to `path` unless the block raises."""
    with _scratch(path) as scratch:
        scratch.mkdir()
        yield scratch
        old = _scratch_name(path)  # renamed first, so that no reader sees it half deleted
        with suppress(FileNotFoundError):
            os.replace(path, old)
        os.replace(scratch, path)
        _remove(old)


@contextmanager
def new_output(path: Path) -> Iterator[Path]:
    """Yield a scratch folder, and rename it to `path` with a manifest.json of its files unless the block raises.

    Raises:
        UnrollError: see check_written.
    """
    check_written(path)
    with new_folder(path) as scratch:
        yield scratch
        write_json(scratch / MANIFEST, {"files": describe_files(scratch, but=MANIFEST)})


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a scratch path beside `path`, and rename it to `path` unless the block raises.

    A file that is replaced passes on its permissions, and a link its target. A device or a pipe, such as /dev/stdout,
    is yielded itself.
    """
    if path.exists() and (not path.is_file() or path.is_relative_to("/dev")):
        yield path
        return
    target = path.resolve()
    with _scratch(target) as scratch:
        scratch.touch()
        yield scratch
        with suppress(FileNotFoundError):
            scratch.chmod(stat.S_IMODE(target.stat().st_mode))
        os.replace(scratch, target)


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` and remove what is there afterwards, with the leftovers of processes that died."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*-*.part"):
        if not psutil.pid_exists(int(left.name.rsplit(".", 2)[1].partition("-")[0])):
            _remove(left)
    scratch = _scratch_name(path)
    try:
        yield scratch
    finally:
        _remove(scratch)


def _scratch_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON that ends with a line break."""
    with new_file(path) as scratch:
        scratch.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        UnrollError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnrollError(f"{path}: no such file; run the stage that writes it (dvc repro)") from None
    except (ValueError, OSError) as error:
        raise UnrollError(f"{path}: not readable as JSON ({error})") from None


def describe_files(folder: Path, *, but: str) -> list[dict[str, Any]]:
    """Return the name, size and sha256 of every file below a folder except one, which holds these records."""
    return [
        {"name": str(path.relative_to(folder)), "bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / but
    ]


def check_manifest(folder: Path, fix: str) -> None:
    """Check that a folder still holds what its manifest.json lists.

    Raises:
        UnrollError: a file is damaged or missing; the message ends with `fix`.
    """
    try:
        found = describe_files(folder, but=MANIFEST)
        damaged = [file["name"] for file in read_json(folder / MANIFEST)["files"] if file not in found]
    except (KeyError, TypeError):
        damaged = [MANIFEST]
    if damaged:
        raise UnrollError(f"{folder / damaged[0]}: missing or damaged, see {MANIFEST}; {fix}")


def copy_folder(source: Path, target: Path, *but: str) -> Path:
    """Copy a folder's files, but those whose names match a pattern, and return the new folder.

    shutil.copytree puts all faults into one error, which no longer says whether the disk is full.
    """
    for file in sorted(source.rglob("*")):
        if file.is_file() and not any(file.match(pattern) for pattern in but):
            place = target / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
    return target


def check_written(*folders: Path, record: str = MANIFEST) -> None:
    """Check that folders to be replaced have no files but those that their record, JSON as of new_output, lists.

    Raises:
        UnrollError: one has.
    """
    for folder in folders:
        listed = read_json(folder / record)["files"] if (folder / record).is_file() else []
        written = {record, *(file["name"] for file in listed)}
        for file in sorted(folder.rglob("*")):
            if file.is_file() and str(file.relative_to(folder)) not in written:
                raise UnrollError(
                    f"{file}: not written by unroll, which replaces the whole of {folder}; move the file elsewhere or "
                    "delete it"
                )


def check_archive(archive: zipfile.ZipFile, path: Path | str) -> None:
    """Check that no member of an archive unpacks to an implausible size. zipfile never reads past the stated sizes.

    Raises:
        UnrollError: a member is made to fill memory or disk.
    """
    for member in archive.infolist():
        if member.file_size > max(MAX_UNPACKED_BYTES, MAX_COMPRESSION * member.compress_size):
            raise UnrollError(
                f"{path}: {member.filename}: unpacks to {member.file_size:,} bytes, more than {MAX_COMPRESSION} times "
                "its size in the archive; not unpacked, because no text compresses that well"
            )
