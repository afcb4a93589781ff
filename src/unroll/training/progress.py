"""A progress bar for each training on a terminal, nothing elsewhere; several processes draw theirs below each other."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Never

from filelock import FileLock, Timeout
from tqdm import tqdm

_line: FileLock | None = None  # held as long as this process lives
_position = 0


def open_bar(title: str, total: int, done: int, unit: str = "spans", *, quiet: bool) -> "tqdm[Never]":
    """Return a bar over spans or tokens, which is invisible when quiet or not on a terminal."""
    return tqdm(
        total=total, initial=done, desc=title, unit=f" {unit}", unit_scale=True, dynamic_ncols=True, leave=False,
        position=_position, disable=True if quiet else None,
    )  # fmt: skip


@contextmanager
def shared_terminal() -> Iterator[Path]:
    """Share the terminal, in a block, with the processes that call `take_line` with the folder given."""
    before = tqdm.get_lock()  # type: ignore[no-untyped-call]
    with TemporaryDirectory(prefix="unroll-") as folder:
        tqdm.set_lock(FileLock(Path(folder, "terminal.lock")))
        try:
            yield Path(folder)
        finally:
            tqdm.set_lock(before)


def take_line(scratch: Path) -> None:
    """Take a free line of the terminal for this process."""
    global _line, _position
    tqdm.set_lock(FileLock(scratch / "terminal.lock"))
    for position in count():
        _line, _position = FileLock(scratch / f"line-{position}.lock"), position
        try:
            _line.acquire(timeout=0)
            break
        except Timeout:
            pass


def print_line(text: str) -> None:
    """Print a line in place of the bars, which are drawn again below it."""
    with tqdm.get_lock():  # type: ignore[no-untyped-call]
        clear_bars()
        print(text, flush=True)


def clear_bars() -> None:
    """Erase the terminal from the first bar on."""
    if sys.stderr.isatty():
        print("\r\x1b[J", end="", file=sys.stderr, flush=True)
