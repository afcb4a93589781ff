"""`unroll` in this process: fast, where a test needs no process of its own."""

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from unroll.cli.app import app
from unroll.core.errors import run_program


@dataclass(frozen=True)
class Done:
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


def unroll(folder: Path, *arguments: str, given: bytes = b"") -> Done:
    """Run a command in a folder, with the given standard input."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="", write_through=True) for _ in range(2))
    standard_input = patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    code = 0
    with contextlib.chdir(folder), standard_input, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run_program(lambda: app(list(arguments), prog_name="unroll"))
        except SystemExit as end:
            code = int(end.code or 0)
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return Done(code, *texts)
