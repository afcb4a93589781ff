"""All trainings of a task in one pool of processes, one thread each, or on the nodes of a Ray cluster.

A network as small as these gains little from a second thread, so on a CPU the cores go to trainings beside each other.
"""

import copy
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import joblib
import psutil
import torch
from joblib.externals.loky import get_reusable_executor

from unroll.core.errors import UnrollError
from unroll.training.cross_validation import FoldResult, Training, TrainingData, train_fold
from unroll.training.distributed import join_processes, trains_on_cpu
from unroll.training.history import EpochRecord
from unroll.training.progress import clear_bars, print_line, share_terminal

JOBS = "UNROLL_JOBS"
MEMORY_PER_JOB = 2 * 2**30  # bytes; a fold of the best profile on the competition's files takes 0.9 GiB
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}  # a cell's work grows with them; the longest training begins first


class FoldListener:
    """Is told of one training's progress, in the process that trains; this one ignores it.

    Each training gets a copy of its own, pickled where it runs in another process.
    """

    def begin(self, cell: str, fold: int, run_id: str | None) -> str | None:
        """Return the id of the fold's MLflow run, which is kept with its checkpoint.

        Args:
            cell: "RNN", "LSTM" or "GRU".
            fold: the one held out.
            run_id: what an interrupted training of this fold returned here, None where it is new.
        """
        return None

    def epoch(self, record: EpochRecord, spans_per_second: float | None) -> None:
        """Note an epoch; one that an interrupted training finished is repeated, with None for the speed."""

    def end(self, digest: str, scores: dict[str, float]) -> None:
        """Note the end: the sha256 of the weights; best_epoch, and accuracy, macro_f1 and log_loss of the fold."""


def train_all(
    trainings: Sequence[Training], data: TrainingData, *, cache: Path, listener: FoldListener
) -> list[FoldResult]:
    """Train the folds that the cache lacks, print a line for each, and return the results in the order given.

    Under torchrun all processes call this together and train one fold after another; the main one alone can read the
    results.

    Raises:
        UnrollError: the first that a training raised, or a process was killed. Finished folds are kept; the others
            continue from their last checkpoint in the next call.
    """
    processes, pool = join_processes(), Pool(data, cache, listener)
    results = [FoldResult.of(training, data, cache) for training in trainings]
    finished = processes.from_main([processes.is_main and result.is_finished() for result in results])
    left = []
    for training, is_finished in zip(trainings, finished, strict=True):
        if not is_finished:
            left.append(training)
        elif processes.is_main:
            pool.report(training, "from the cache")
    left.sort(key=lambda training: GATES[training.cell], reverse=True)
    jobs = count_jobs(len(left)) if processes.count == 1 else 1
    for training, seconds in pool.train_in_processes(left, jobs) if jobs > 1 else pool.train_here(left):
        if processes.is_main:
            pool.report(training, f"{seconds:.0f} s")
    return results


def count_jobs(trainings: int) -> int:
    """Return how many trainings run at once: UNROLL_JOBS if set, else one per core as far as there is memory.

    On another device than the CPU, one training runs at a time.

    Raises:
        UnrollError: the variable is not a number above 0.
    """
    value = os.environ.get(JOBS)
    if value is None:
        jobs = min(joblib.cpu_count(), _memory() // MEMORY_PER_JOB) if trains_on_cpu() else 1
    elif value.isdecimal() and int(value) > 0:
        jobs = int(value)
    else:
        raise UnrollError(f"{JOBS}: found {value!r}, expected how many trainings to run at once, 1 or more")
    return max(1, min(trainings, jobs))


def _memory() -> int:
    """Return the total memory of this machine or container in bytes."""
    limit = MEMORY_LIMIT.read_text().strip() if MEMORY_LIMIT.is_file() else ""
    total = int(psutil.virtual_memory().total)
    return min(total, int(limit)) if limit.isdecimal() else total


@dataclass(frozen=True)
class Pool:
    """Trains folds on one corpus into one cache, in this process or in several."""

    data: TrainingData
    cache: Path
    listener: FoldListener

    def train(self, training: Training) -> tuple[Training, float]:
        """Train one fold in this process, and return the seconds that it took."""
        began = time.monotonic()
        processes, listener = join_processes(), copy.copy(self.listener)
        if trains_on_cpu() and processes.count == 1:
            torch.set_num_threads(1)
        result = FoldResult.of(training, self.data, self.cache)
        if processes.is_main:
            note = result.checkpoints / "run_id"
            run_id = listener.begin(training.cell, training.fold, note.read_text() if note.is_file() else None)
            if run_id:
                note.parent.mkdir(parents=True, exist_ok=True)
                note.write_text(run_id)
        train_fold(training, self.data, self.cache, listener.epoch)
        if processes.is_main:
            scores = result.summary
            del scores["fold"]
            listener.end(scores.pop("digest"), scores)
        return training, time.monotonic() - began

    def train_here(self, trainings: Sequence[Training]) -> Iterator[tuple[Training, float]]:
        """Train one fold after another in this process."""
        return map(self.train, trainings)

    def train_in_processes(self, trainings: Sequence[Training], jobs: int) -> Iterator[tuple[Training, float]]:
        """Train so many folds at a time, each in a process, and yield each as it finishes."""
        warnings.filterwarnings("ignore", "A worker stopped while some jobs")  # loky replaces one that holds memory
        with TemporaryDirectory(prefix="unroll-") as scratch:
            share_terminal(Path(scratch), takes_line=False)
            begin = {"initializer": _begin_worker, "initargs": (os.getpid(), Path(scratch))}
            with joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1, **begin), _interrupts_ignored():
                parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1)
                finished = parallel(joblib.delayed(self.train)(training) for training in trainings)
            try:
                yield from finished
            except BrokenProcessPool:
                raise UnrollError(
                    "a training's process was killed, as happens when memory runs out; finished folds are kept, and "
                    f"{JOBS}=1 trains one at a time"
                ) from None
            finally:
                get_reusable_executor().shutdown(kill_workers=True)
                clear_bars()

    def report(self, training: Training, note: str) -> None:
        """Print a line about a finished fold."""
        summary = FoldResult.of(training, self.data, self.cache).summary
        metric = training.task.metric
        name = metric.replace("_", "-")
        print_line(f"{training}: best epoch {summary['best_epoch']}, {name} {summary[metric]:.4f}, {note}")


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C, also in the processes that start in the block: the parent alone ends on it, and ends them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _begin_worker(parent: int, scratch: Path) -> None:
    """Set up a new process: it leaves Ctrl-C to the parent, exits when the parent is gone, and has its own bar."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def exit_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()
    share_terminal(scratch)
