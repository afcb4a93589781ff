"""Checkpoints: the state of a training after each of its last two epochs."""

import io
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch

from unroll.core.errors import warn
from unroll.core.files import new_file

KEPT = 2  # the newest, and the one before it in case the newest is damaged


class Checkpoints:
    """A folder with a file for each of the last epochs, as torch.save writes it."""

    def __init__(self, folder: Path) -> None:
        """Name the folder, which need not exist."""
        self.folder = folder

    def save(self, epoch: int, content: dict[str, Any]) -> None:
        """Write the state after an epoch and delete all but the newest two."""
        buffer = io.BytesIO()
        torch.save(content, buffer)  # to memory first: where a disk is full, torch.save raises no OSError
        with new_file(self.folder / f"epoch-{epoch:06d}.pt") as scratch:
            scratch.write_bytes(buffer.getbuffer())
        for path in self._newest_first()[KEPT:]:
            path.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """Return the newest state that is not damaged, or None; a damaged one is deleted with a warning."""
        for path in self._newest_first():
            if _is_whole(path):
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                return state
            warn(f"{path}: damaged; training continues from the checkpoint before it, or starts again without one")
            path.unlink()
        return None

    def clear(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*.pt"), reverse=True)


def _is_whole(path: Path) -> bool:
    """Return whether the file's checksums match; torch.load does not compare them."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, RuntimeError):
        return False
