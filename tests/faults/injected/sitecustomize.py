"""Python imports this first, where a test puts its folder on the path: it kills the program at one of its renames.

Every file and folder of the project takes its final name by os.replace; Numba's files of machine code, which do so as
well, are not counted. KILL_AT=3- kills just before the third one, KILL_AT=3+ just after it; RENAMES names a file that
gets a line for each.
"""

import os
import signal
from typing import Any

rename, at = os.replace, os.environ.get("KILL_AT", "0-")
count = 0


def replace(*arguments: Any, **more: Any) -> None:
    """Rename, or die."""
    global count
    if str(arguments[1]).endswith((".nbi", ".nbc")):
        rename(*arguments, **more)
        return
    count += 1
    if at == f"{count}-":
        os.kill(os.getpid(), signal.SIGKILL)
    rename(*arguments, **more)
    if "RENAMES" in os.environ:
        with open(os.environ["RENAMES"], "a") as file:  # noqa: PTH123
            file.write(f"{arguments[1]}\n")
    if at == f"{count}+":
        os.kill(os.getpid(), signal.SIGKILL)


os.replace = replace
