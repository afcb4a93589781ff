"""Writing that never leaves half a file under a final name, and the sha256 that names a file's content."""

import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from unroll.core.errors import UnrollError

MANIFEST = "manifest.json"
BOMB_BYTES, BOMB_TIMES = 64 << 20, 200  # text takes a third to a tenth of its size in an archive


def sha256_of(*paths: Path) -> str:
    """Return the hexadecimal sha256 over files, or over all files below folders, in the order of their names."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the hexadecimal sha256 of one file, as `sha256sum` prints it."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a scratch folder beside `path`; it takes that name when the block ends well, and is removed otherwise."""
    with _scratch(path, is_folder=True) as scratch:
        yield scratch
        while True:
            try:
                os.replace(scratch, path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                aside = _beside(path)  # what stood there goes as a whole, so that nobody reads half of it
                os.replace(path, aside)
                shutil.rmtree(aside)
            else:
                break


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a scratch path beside `path`; it takes that name when the block ends well, and is removed otherwise."""
    with _scratch(path, is_folder=False) as scratch:
        yield scratch
        os.replace(scratch, path)


@contextmanager
def _scratch(path: Path, *, is_folder: bool) -> Iterator[Path]:
    """Make a scratch file or folder, locked as long as this process lives, and remove those of processes that died."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'?' * 8}.part"):
        with suppress(OSError):
            handle = _lock(left)
            _remove(left)
            os.close(handle)
    while True:
        scratch = _beside(path)
        if is_folder:
            scratch.mkdir()
        else:
            scratch.touch()
        with suppress(BlockingIOError, FileNotFoundError):  # another process took it for one that was left
            handle = _lock(scratch)
            break
    try:
        yield scratch
    finally:
        _remove(scratch)
        os.close(handle)


def _lock(path: Path) -> int:
    """Return a handle of a file or folder with a lock on it, which ends with the process, however that ends.

    Raises:
        BlockingIOError: another process holds it.
        FileNotFoundError: it is gone.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.stat()
    except OSError:
        os.close(handle)
        raise
    return handle


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")


def write_json(path: Path, content: Any) -> None:
    """Write JSON that reads well and ends with a line break."""
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
    """Return name, size and sha256 of every file below a folder but the one that keeps this record."""
    return [
        {"name": str(path.relative_to(folder)), "bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / but
    ]


def write_manifest(folder: Path) -> None:
    """Write manifest.json: the size and sha256 of every file of a folder that is ready."""
    write_json(folder / MANIFEST, {"files": describe_files(folder, but=MANIFEST)})


def check_manifest(folder: Path, fix: str) -> None:
    """Check that a folder holds the files that its manifest.json names, each as it was written.

    Args:
        folder: where write_manifest was called.
        fix: what a person should do about a damaged one.

    Raises:
        UnrollError: a file is damaged or missing, or there is no manifest.
    """
    record = read_json(folder / MANIFEST)
    try:
        named = {file["name"]: file["sha256"] for file in record["files"]}
    except (KeyError, TypeError):
        raise UnrollError(f"{folder / MANIFEST}: expected the sha256 of each file; {fix}") from None
    found = {file["name"]: file["sha256"] for file in describe_files(folder, but=MANIFEST)}
    for name in sorted(named):
        if name not in found:
            raise UnrollError(f"{folder / name}: missing, but {MANIFEST} names it; {fix}")
        if named[name] != found[name]:
            raise UnrollError(f"{folder / name}: damaged, its sha256 is not the one in {MANIFEST}; {fix}")


def check_archive(archive: zipfile.ZipFile, path: Path | str) -> None:
    """Check that an archive holds no more than a disk can be expected to take. zipfile never reads past these sizes.

    Raises:
        UnrollError: a member is made to fill memory or disk.
    """
    for member in archive.infolist():
        if member.file_size > BOMB_BYTES and member.file_size > BOMB_TIMES * member.compress_size:
            raise UnrollError(
                f"{path}: {member.filename} would be {member.file_size:,} bytes, more than {BOMB_TIMES} times what it "
                "takes in the archive; no text is like that, so it is not unpacked"
            )
