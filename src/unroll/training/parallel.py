"""The folds of a training, side by side where there are cores: each in a process of its own.

A network as small as these gains little from a second thread: its matrices are over before one has begun.
"""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import active_children, connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import RLock
from pathlib import Path

import joblib
import psutil
import torch

from unroll.core.errors import UnrollError
from unroll.core.settings import TaskConfig
from unroll.data.competition import Competition
from unroll.training.cross_validation import FoldResult, TrainingData, is_finished, load_training_data, train_fold
from unroll.training.distributed import join_processes, trains_on_cpu
from unroll.training.history import EpochRecord
from unroll.training.progress import share_terminal

JOBS = "UNROLL_JOBS"
MEMORY_OF_A_FOLD = 2 * 2**30  # bytes; a fold of the best profile on the competition's files takes 0.9 GiB
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container
Message = tuple[int, tuple[EpochRecord, float | None] | None]  # a fold, and its epoch or nothing: it begins


class FoldListener:
    """Hears in the process that trains the folds what becomes of them; this one does nothing about it."""

    def begin(self, fold: int) -> None:
        """Training of a fold begins, or goes on."""

    def epoch(self, fold: int, record: EpochRecord, spans_per_second: float | None) -> None:
        """An epoch is over, now or, where there is no speed, in an earlier call."""

    def end(self, result: FoldResult) -> None:
        """A fold is finished; folds may end in any order."""

    def stop(self, fold: int) -> None:
        """A fold that has begun is not finished, because of another one's error."""


@dataclass(frozen=True)
class Training:
    """What the folds of a training have in common.

    Attributes:
        task: names the labels.
        cell: "RNN", "LSTM" or "GRU".
        corpus: the folder that the tokenize stage wrote.
        config: the task's sections; split.run_folds are trained.
        seed: of the whole training.
        cache: folder of finished folds and checkpoints.
    """

    task: Competition
    cell: str
    corpus: Path
    config: TaskConfig
    seed: int
    cache: Path

    def train(self, fold: int, data: TrainingData, listener: FoldListener) -> FoldResult:
        """Train a fold in this process, or take it from the cache."""
        listener.begin(fold)
        return train_fold(
            self.task, self.cell, fold, data, self.config, seed=self.seed, cache=self.cache,
            on_epoch=partial(listener.epoch, fold),
        )  # fmt: skip

    def is_finished(self, fold: int, data: TrainingData) -> bool:
        """Return whether a fold is in the cache."""
        return is_finished(self.task, self.cell, fold, data, self.config, seed=self.seed, cache=self.cache)


def train_folds(training: Training, data: TrainingData, listener: FoldListener) -> list[FoldResult]:
    """Train every fold that is to run, and return them in their order.

    Args:
        training: what is to be trained.
        data: what load_training_data reads from the training's corpus.
        listener: hears in this process of each fold.

    Raises:
        UnrollError: the first that a fold raised, or a process is gone; the others are stopped then, each after its
            last finished epoch, where the next call goes on.
    """
    folds = training.config.split.run_folds
    if join_processes().count > 1 or (jobs := count_jobs(len(folds))) == 1:
        return [_train_here(training, fold, data, listener) for fold in folds]
    unfinished = [fold for fold in folds if not training.is_finished(fold, data)]
    finished = {fold: _train_here(training, fold, data, listener) for fold in folds if fold not in unfinished}
    if unfinished:  # in processes even where it is one alone: how many threads a fold has changes its last bits
        finished |= _train_side_by_side(training, unfinished, jobs, listener)
    return [finished[fold] for fold in folds]


def count_jobs(folds: int) -> int:
    """Return how many folds to train at once: what UNROLL_JOBS says, else one a core as far as there is memory.

    Several at once are for a CPU: another device is full with one.

    Raises:
        UnrollError: the variable holds no number above 0.
    """
    wanted = os.environ.get(JOBS)
    if wanted is None:
        return max(1, min(folds, joblib.cpu_count(), _memory() // MEMORY_OF_A_FOLD)) if trains_on_cpu() else 1
    if not wanted.isdecimal() or int(wanted) == 0:
        raise UnrollError(f"{JOBS}={wanted}: expected how many folds to train at once, a whole number above 0")
    return min(folds, int(wanted))


def _memory() -> int:
    """Return the memory of this machine or container in bytes: all of it, so that the same run counts the same."""
    limit = MEMORY_LIMIT.read_text().strip() if MEMORY_LIMIT.is_file() else ""
    total = int(psutil.virtual_memory().total)
    return min(total, int(limit)) if limit.isdecimal() else total


def _train_here(training: Training, fold: int, data: TrainingData, listener: FoldListener) -> FoldResult:
    result = training.train(fold, data, listener)
    listener.end(result)
    return result


def _train_side_by_side(
    training: Training, folds: list[int], jobs: int, listener: FoldListener
) -> dict[int, FoldResult]:
    finished: dict[int, FoldResult] = {}
    begun: set[int] = set()
    failed: set[int] = set()
    with _open_pool(jobs) as (pool, messages):
        others = active_children()
        try:
            with _deaf_to_interrupts():  # the processes, which begin here, stay so
                running = {pool.submit(_train, training, fold): fold for fold in folds}
            ends = [process.sentinel for process in active_children() if process not in others]
            while running:
                ended = wait(running, timeout=0.1, return_when=FIRST_COMPLETED).done
                while not messages.empty():
                    fold, epoch = messages.get()
                    if epoch is None:
                        listener.begin(fold)
                        begun.add(fold)
                    else:
                        listener.epoch(fold, *epoch)
                failed = {running[future] for future in ended if _has_failed(future)}
                for future in sorted(ended, key=_has_failed):  # what is finished first, before an error is raised
                    fold = running.pop(future)
                    finished[fold] = future.result()
                    listener.end(finished[fold])
                if connection.wait(ends, timeout=0):  # the pool itself may not see it before another fold ends
                    raise BrokenProcessPool
        except BrokenProcessPool:
            failed = set()  # nobody knows which
            raise UnrollError(
                f"{training.task.name} {training.cell}: a process that trained a fold died, as when memory runs out; "
                f"{JOBS}=1 trains one fold after the other, and finished ones are kept"
            ) from None
        finally:
            for fold in begun - finished.keys() - failed:
                listener.stop(fold)
    return finished


def _has_failed(future: "Future[FoldResult]") -> bool:
    return future.exception() is not None


@contextmanager
def _open_pool(jobs: int) -> "Iterator[tuple[ProcessPoolExecutor, SimpleQueue[Message]]]":
    """Open processes that train folds, and the queue of what they tell; none is left when the block ends."""
    context = get_context("spawn")
    messages: SimpleQueue[Message] = context.SimpleQueue()
    places: SimpleQueue[int] = context.SimpleQueue()
    for place in range(jobs):
        places.put(place)
    alive, lifeline = context.Pipe(duplex=False)
    threads = max(1, min(torch.get_num_threads(), joblib.cpu_count() // jobs))
    beginning = (messages, places, alive, context.RLock(), threads)
    pool = ProcessPoolExecutor(jobs, context, _begin, beginning)
    others = active_children()
    try:
        yield pool, messages
    except BaseException:
        for process in active_children():
            if process not in others:
                process.kill()
        raise
    finally:
        lifeline.close()
        pool.shutdown(cancel_futures=True)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Hear Ctrl-C at the end of the block; the processes that begin in it never hear it, not even while they begin."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(
    messages: "SimpleQueue[Message]", places: "SimpleQueue[int]", alive: Connection, lock: RLock, threads: int
) -> None:
    """Begin a process that trains folds: it hears no Ctrl-C, and ends when the one that began it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
    torch.set_num_threads(threads)
    share_terminal(places.get(), lock)
    _Messenger.messages = messages


def _end_with(alive: Connection) -> None:
    with suppress(EOFError, OSError):
        alive.recv()
    os._exit(1)


class _Messenger(FoldListener):
    """Tells the process that began this one."""

    messages: "SimpleQueue[Message]"

    def begin(self, fold: int) -> None:
        self.messages.put((fold, None))

    def epoch(self, fold: int, record: EpochRecord, spans_per_second: float | None) -> None:
        self.messages.put((fold, (record, spans_per_second)))


_load_material = cache(load_training_data)


def _train(training: Training, fold: int) -> FoldResult:
    return training.train(fold, _load_material(training.corpus), _Messenger())
