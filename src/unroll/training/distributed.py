"""The processes that train together: who writes, what all of them know, and how a stage is started on several.

torchrun starts them and accelerate joins them. With one process nothing here communicates.
"""

import os
import shlex
import sys
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from unroll.core.errors import UnrollError

LAUNCH = "UNROLL_LAUNCH"
Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """The place of this process among those that train together; every method is called by all of them at once."""

    index: int
    count: int

    @property
    def is_main(self) -> bool:
        """Return whether this is the one that writes files and talks to MLflow."""
        return self.index == 0

    def share(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return every count-th number, (N,): each number belongs to one process, and some may get none."""
        return numbers[self.index :: self.count]

    def from_main(self, value: Value) -> Value:
        """Return what the main process has here; the others' values are ignored."""
        if self.count == 1:
            return value
        values = [value]
        broadcast_object_list(values)
        return values[0]

    def gather(self, value: Value) -> list[Value]:
        """Return every process' value, in the order of the processes."""
        return [value] if self.count == 1 else list(gather_object([value]))

    def check_equal(self, value: object, what: str) -> None:
        """Check that all processes have the same value.

        Raises:
            UnrollError: they do not; the message says what it is.
        """
        values = self.gather(value)
        for index, other in enumerate(values):
            if other != values[0]:
                raise UnrollError(
                    f"process {index} has other {what} than process 0; every machine needs the same project and files"
                )


def join_processes() -> Processes:
    """Join those that were started together, or find that this process is alone.

    Raises:
        UnrollError: several were started, but each would train alone.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    options: dict[str, Any] = {}
    if started > 1 and not torch.cuda.is_available():
        options = {"cpu": True}  # accelerate would leave every process alone otherwise, without a word
    state = PartialState(**options)
    if state.num_processes != started:
        raise UnrollError(
            f"{started} processes were started, but {state.num_processes} would train; start them with torchrun"
        )
    return Processes(state.process_index, state.num_processes)


def trains_on_cpu() -> bool:
    """Return whether this process has no device to train on but the CPU."""
    return bool(PartialState().device.type == "cpu")


def leave_processes() -> None:
    """Let go of the others at the end, so that none of them is waited for."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def relaunch(module: str, arguments: list[str]) -> None:
    """Become the command that the variable UNROLL_LAUNCH holds, as in "torchrun --nproc-per-node 4", on a module.

    Nothing happens without the variable, and in the processes that the command starts.

    Raises:
        UnrollError: there is no such command.
    """
    command = shlex.split(os.environ.get(LAUNCH, ""))
    if not command or "WORLD_SIZE" in os.environ:
        return
    sys.stdout.flush()
    try:
        os.execvp(command[0], [*command, "-m", module, *arguments])  # noqa: S606 (no shell is wanted)
    except OSError as error:
        raise UnrollError(f"{LAUNCH}={os.environ[LAUNCH]}: {command[0]}: {error.strerror}") from None
