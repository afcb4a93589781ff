"""Progress of a training: a bar on a terminal, nothing elsewhere; trainings in several processes have a line each."""

import sys
from itertools import count
from pathlib import Path
from typing import Never

from filelock import FileLock, Timeout
from tqdm import tqdm

_lines: list[FileLock] = []  # held as long as this process lives
_position = 0


def open_bar(title: str, *, total: int, done: int, quiet: bool) -> "tqdm[Never]":
    """Return a bar over spans; it is invisible when quiet or not on a terminal."""
    return tqdm(
        total=total, initial=done, desc=title, unit=" spans", unit_scale=True, dynamic_ncols=True, leave=False,
        position=_position, disable=True if quiet else None,
    )  # fmt: skip


def share_terminal(scratch: Path, *, takes_line: bool = True) -> None:
    """Draw the bars of this process beside those of the other processes that name the same scratch folder.

    Args:
        scratch: an existing folder for lock files.
        takes_line: draw on the first line that no other process has.
    """
    global _position
    tqdm.set_lock(FileLock(scratch / "terminal.lock"))
    for line in count() if takes_line else ():
        lock = FileLock(scratch / f"line-{line}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        _lines.append(lock)
        _position = line
        return


def print_line(text: str) -> None:
    """Print a line above the bars of all processes, which are drawn again below it."""
    with tqdm.get_lock():  # type: ignore[no-untyped-call]
        clear_bars()
        print(text, flush=True)


def clear_bars() -> None:
    """Erase the terminal from the first bar on."""
    if sys.stderr.isatty():
        print("\r\x1b[J", end="", file=sys.stderr, flush=True)
