"""User-facing errors, and how each program ends on one."""

import errno
import os
import signal
import sys
from collections.abc import Callable
from types import TracebackType


class UnrollError(Exception):
    """A mistake in the input or the set-up, which the user can fix.

    The message names the file, the row or the key, what was found, what was expected, and what to do. Programs print
    it without a traceback and exit with status 1.
    """


DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


def warn(message: str) -> None:
    """Print a warning on standard error."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


def brief(error: object, most: int = 200) -> str:
    """Return the beginning of an error's message on one line."""
    return " ".join(str(error).split())[:most]


def run_program(main: Callable[[], None]) -> None:
    """Run a program's main function; an error that the user can fix is one message without a traceback.

    Exits with status 1 on an UnrollError, on running out of memory and on a disk that is full or not writable; with
    130 on Ctrl-C.
    """
    try:
        main()
    except (UnrollError, OSError, RuntimeError, MemoryError) as error:
        message = str(error) if isinstance(error, UnrollError) else explain_fault(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the exit
        print_interrupted()
        raise SystemExit(130) from None


def run_stage(main: Callable[..., None]) -> None:
    """Run a stage's main function with the program's arguments; see run_program."""
    run_program(lambda: main(*sys.argv[1:]))


def print_interrupted() -> None:
    """Print how to continue after Ctrl-C."""
    command = "`dvc repro`" if "DVC_STAGE" in os.environ else "the same command"
    print(f"interrupted: run {command} again to continue", file=sys.stderr)


def handle_interrupt(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print one line on Ctrl-C; a replacement for sys.excepthook while a program still imports."""
    if issubclass(kind, KeyboardInterrupt):
        print_interrupted()
    else:
        sys.__excepthook__(kind, error, trace)


def explain_fault(error: Exception) -> str | None:
    """Return a message for a file that cannot be read or written, and for memory that ran out; None for any other."""
    if not isinstance(error, OSError):
        settings = "train.batch_size, model.hidden or model.layers in params.yaml"
        return f"out of memory; lower {settings}, or end other programs" if is_out_of_memory(error) else None
    file = f"{error.filename}: " if error.filename else ""
    if error.errno in NOT_WRITABLE:
        return f"{file}{error.strerror}; make it readable and its folder writable, and run the same command again"
    # NumPy reports a short write without an error number.
    if error.errno in DISK_FULL or (error.errno is None and "requested and" in str(error)):
        return f"{file}{error.strerror or error}; free some disk space, and run the same command again"
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error reports that a device, PyTorch's CPU allocator or Python itself ran out of memory.

    The end of a CUDA graph's capture raises an error of its own while such an error is handled.
    """
    words = ("DefaultCPUAllocator", "not enough memory", "out of memory", "ALLOC_FAILED")
    is_it = isinstance(error, MemoryError) or any(word in str(error) for word in words)
    cause = error.__context__ if "capture" in str(error) else None
    return is_it or (cause is not None and is_out_of_memory(cause))
