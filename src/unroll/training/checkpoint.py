"""The state of a training after each finished epoch, on disk: whole or not there, and checked before it is believed."""

import hashlib
import io
import shutil
from pathlib import Path
from typing import Any

import torch

from unroll.core.errors import warn
from unroll.core.files import new_file

KEPT = 2  # the newest, and the one before it in case the newest is damaged


class Checkpoints:
    """A folder with a file an epoch: the sha256 of what follows in its first line, then what torch.save writes."""

    def __init__(self, folder: Path) -> None:
        """Name the folder, which need not exist."""
        self.folder = folder

    def save(self, epoch: int, content: dict[str, Any]) -> None:
        """Write the state after an epoch, beside its name first, and forget all but the newest two."""
        buffer = io.BytesIO()
        torch.save(content, buffer)  # a file would be given up half written, in words of C++, where a disk is full
        payload = buffer.getvalue()
        with new_file(self.folder / f"epoch-{epoch:06d}.pt") as scratch, scratch.open("wb") as file:
            file.write(hashlib.sha256(payload).hexdigest().encode() + b"\n")
            file.write(payload)
        for path in self._newest_first()[KEPT:]:
            path.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """Return the newest state that is whole, or None; a damaged one is named on standard error and taken away."""
        for path in self._newest_first():
            content = path.read_bytes()
            digest, _, payload = content.partition(b"\n")
            if hashlib.sha256(payload).hexdigest().encode() == digest:
                state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
                return state
            warn(f"{path}: damaged, its sha256 is another one; training goes on from the one before it, if any")
            path.unlink(missing_ok=True)
        return None

    def clear(self) -> None:
        """Forget them all."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*.pt"), reverse=True)
