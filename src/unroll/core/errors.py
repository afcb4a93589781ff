"""The one exception for what a person can fix, and how each program of the house ends on it."""

import errno
import os
import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn


class UnrollError(Exception):
    """A mistake in the input or the set-up.

    The message is one sentence that names the file, the row or the key, what was found and what would be right.
    Programs print it without a traceback and end with a status other than zero.
    """


NO_PLACE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "free some space, or raise the limit on the size of a file",
    errno.EIO: "look after the disk",
    errno.EROFS: "make the folder writable",
    errno.EACCES: "make it readable and its folder writable",
    errno.EPERM: "make it readable and its folder writable",
}


def fail(message: str) -> NoReturn:
    """Print one sentence on standard error and end the program with status 1."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(1)


def warn(message: str) -> None:
    """Print one sentence on standard error and go on."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


def run_program(main: Callable[[], None]) -> None:
    """Run a program's main function and say what went wrong in one sentence.

    An UnrollError, memory that ran out, or a disk that is full or takes no writing ends it with status 1; Ctrl-C
    with 130.
    """
    try:
        main()
    except UnrollError as error:
        fail(str(error))
    except OSError as error:
        told = explain_no_place(error)
        if told is None:
            raise
        fail(told)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        fail(
            "out of memory; end other programs, or lower train.batch_size, model.hidden or model.layers in params.yaml"
        )
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one finds it ending
        tell_interrupted()
        raise SystemExit(130) from None


def tell_interrupted() -> None:
    """Say how to go on."""
    command = "`dvc repro`" if "DVC_STAGE" in os.environ else "the same command"
    print(f"interrupted: {command} goes on where this one stopped", file=sys.stderr)


def hear_interrupt(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Stand in for sys.excepthook: a Ctrl-C is one sentence."""
    if issubclass(kind, KeyboardInterrupt):
        tell_interrupted()
    else:
        sys.__excepthook__(kind, error, trace)


def explain_no_place(error: OSError) -> str | None:
    """Return one sentence and the next step where an error says that a file cannot be written, None for others."""
    file = f"{error.filename}: " if error.filename else ""
    again = "then the same command goes on where this one stopped; no half file is left under a final name"
    if error.errno in NO_PLACE:
        return f"{file}{error.strerror}; {NO_PLACE[error.errno]}, {again}"
    if error.errno is None and "requested and" in str(error):  # NumPy's words for a write that was cut short
        return f"a file could be written in part only ({error}); free some space, {again}"
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out: a device's, the CPU allocator's or Python's own."""
    words = ("DefaultCPUAllocator", "not enough memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)
