"""The one exception for what a person can mend, and how each program of the house ends on it."""

import sys
from collections.abc import Callable
from typing import NoReturn


class UnrollError(Exception):
    """A mistake in the input or the set-up.

    The message is one sentence that names the file, the row or the key, what was found and what would be right.
    Programs print it without a traceback and end with a status other than zero.
    """


def fail(message: str) -> NoReturn:
    """Print one sentence on standard error and end the program with status 1."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(1)


def run_program(main: Callable[[], None]) -> None:
    """Run a program's main function; an UnrollError becomes one sentence and exit status 1, Ctrl-C becomes 130."""
    try:
        main()
    except UnrollError as error:
        fail(str(error))
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where this one stopped", file=sys.stderr)
        raise SystemExit(130) from None
