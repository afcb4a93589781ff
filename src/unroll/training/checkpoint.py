"""Checkpoints: the state of a training after each of its last two epochs, as torch.save writes it."""

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from unroll.core.errors import warn
from unroll.core.files import new_file


def save_checkpoint(folder: Path, epoch: int, state: dict[str, Any]) -> None:
    """Write the state after an epoch, and delete all but the last two."""
    buffer = io.BytesIO()
    torch.save(state, buffer)  # in memory first: on a full disk torch.save raises no OSError
    with new_file(folder / f"epoch-{epoch:06d}.pt") as scratch:
        scratch.write_bytes(buffer.getbuffer())
    for path in _newest_first(folder)[2:]:
        path.unlink()


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return the last state that is not damaged, or None; a damaged file is deleted with a warning."""
    for path in _newest_first(folder):
        if _is_whole(path):
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            return state
        warn(f"{path}: damaged; training continues from the checkpoint before it, or starts again without one")
        path.unlink()
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*.pt"), reverse=True)


def _is_whole(path: Path) -> bool:
    """Return whether the file's checksums are right, which torch.load does not compare."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, RuntimeError):
        return False
