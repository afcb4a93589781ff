"""Several processes that train one model together, started by torchrun and joined by accelerate.

With one process nothing here communicates.
"""

import math
import os
import shlex
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from unroll.core.errors import UnrollError
from unroll.models.inference import predict
from unroll.models.span_classifier import SpanClassifier
from unroll.text.batches import Batch, make_batch
from unroll.text.corpus import Corpus, Ints
from unroll.training.losses import BatchTotals

LAUNCH = "UNROLL_LAUNCH"
Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """This process' rank among those that train together; all of them call each method at the same time."""

    index: int
    count: int

    @property
    def is_main(self) -> bool:
        """Return whether this process writes files and logs to MLflow."""
        return self.index == 0

    def from_main(self, value: Value) -> Value:
        """Return the main process' value."""
        first: Value = broadcast_object_list([value])[0]
        return first

    def gather(self, value: Value) -> list[Value]:
        """Return every process' value, ordered by rank."""
        return list(gather_object([value]))


def join_processes() -> Processes:
    """Join the processes that torchrun started; without it, return this one alone.

    Raises:
        UnrollError: several were started, but each would train alone.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    # Without the option, accelerate takes devices such as Apple's, and leaves each of several processes on a CPU alone.
    state = PartialState(cpu=trains_on_cpu())
    if state.num_processes != started:
        raise UnrollError(f"{started} processes were started, but {state.num_processes} would train; use torchrun")
    return Processes(state.process_index, state.num_processes)


def trains_on_cpu() -> bool:
    """Return whether there is no CUDA device. Other devices are not used: the code was never measured on one."""
    return not torch.cuda.is_available()


def leave_processes() -> None:
    """Leave the process group, so that no process waits for another at exit."""
    PartialState().destroy_process_group()


def relaunch(module: str, arguments: list[str]) -> None:
    """Replace this process by the command in UNROLL_LAUNCH, such as "torchrun --nproc-per-node 4", run on a module.

    Does nothing without the variable and in processes that torchrun started.

    Raises:
        UnrollError: there is no such command.
    """
    command = shlex.split(os.environ.get(LAUNCH, ""))
    if command and "WORLD_SIZE" not in os.environ:
        try:
            os.execvp(command[0], [*command, "-m", module, *arguments])  # noqa: S606 (no shell is wanted)
        except OSError as error:
            raise UnrollError(f"{LAUNCH}={os.environ[LAUNCH]}: {command[0]}: {error.strerror}") from None


def count_labelled(corpus: Corpus, sequences: Ints) -> int:
    """Return how many spans of the sequences have a known target."""
    return int(np.isfinite(corpus.targets[corpus.spans_of(sequences)]).any(1).sum())


def shard_batch(corpus: Corpus, sequences: Ints, processes: Processes) -> tuple[Batch, BatchTotals]:
    """Return this process' shard of a batch, and the totals of the whole.

    A process without a share takes the first sequence as a shard of an infinite batch, so that it adds nothing to the
    gradient: all processes have to take part in every step.
    """
    labelled = count_labelled(corpus, sequences)
    mine = sequences[processes.index :: processes.count]
    if not len(mine):
        return make_batch(corpus, sequences[:1]), BatchTotals(math.inf, math.inf)
    pairs = int((corpus.offsets[sequences + 1] - corpus.offsets[sequences]).sum()) - len(sequences)
    return make_batch(corpus, mine), BatchTotals(max(1, labelled), max(1, pairs))


def predict_sharded(
    model: SpanClassifier, corpus: Corpus, sequences: Ints, processes: Processes
) -> npt.NDArray[np.float32]:
    """Return what `predict` returns, (R, P), on every process; each computes a share of it."""
    mine = sequences[processes.index :: processes.count]
    shards = processes.gather(predict(model, corpus, mine) if len(mine) else np.empty((0, model.outputs), np.float32))
    owner = np.repeat(np.arange(len(sequences)) % processes.count, np.diff(corpus.span_offsets)[sequences])  # (R,)
    predictions = np.empty((len(owner), model.outputs), np.float32)
    for index, shard in enumerate(shards):
        predictions[owner == index] = shard
    return predictions
