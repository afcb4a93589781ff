"""The folds of a training, side by side where there are cores: each in a process of its own.

A network as small as these gains next to nothing from a second thread: its matrices are over before one has begun.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import RLock
from pathlib import Path

import torch

from unroll.config import TaskConfig
from unroll.errors import UnrollError
from unroll.folds import FoldResult, Material, load_material, train_fold
from unroll.processes import join_processes
from unroll.progress import share_terminal
from unroll.tasks import load_task
from unroll.train import EpochRecord

JOBS = "UNROLL_JOBS"
Message = tuple[int, EpochRecord, float | None]
OnFoldEpoch = Callable[[int, EpochRecord, float | None], None]


@dataclass(frozen=True)
class Training:
    """What the folds of a training have in common.

    Attributes:
        task: its name.
        cell: "RNN", "LSTM" or "GRU".
        corpus: the folder that the tokenize stage wrote.
        config: the task's sections; split.run_folds are trained.
        seed: of the whole training.
        cache: folder of finished folds and checkpoints.
    """

    task: str
    cell: str
    corpus: Path
    config: TaskConfig
    seed: int
    cache: Path

    def train(self, fold: int, material: Material, on_epoch: OnFoldEpoch) -> FoldResult:
        """Train a fold in this process, or take it from the cache."""
        task, listener = load_task(self.task), partial(on_epoch, fold)
        return train_fold(
            task, self.cell, fold, material, self.config, seed=self.seed, cache=self.cache, on_epoch=listener
        )


def train_folds(
    training: Training,
    material: Material,
    on_epoch: OnFoldEpoch = lambda fold, record, spans_per_second: None,
    on_end: Callable[[FoldResult], None] = lambda result: None,
) -> list[FoldResult]:
    """Train every fold that is to run, and return them in their order.

    Args:
        training: what is to be trained.
        material: what load_material reads from the training's corpus.
        on_epoch: called in this process with a fold, what an epoch of it gave, and the spans trained on each second.
        on_end: called in this process with each fold that is finished, in the order in which they end.

    Raises:
        UnrollError: the first that a fold raised, or a process is gone; the others are stopped then, each after its
            last finished epoch, where the next call goes on.
    """
    folds = training.config.split.run_folds
    jobs = count_jobs(len(folds))
    if jobs == 1 or join_processes().count > 1:
        results = []
        for fold in folds:
            results.append(training.train(fold, material, on_epoch))
            on_end(results[-1])
        return results
    context = multiprocessing.get_context("spawn")
    messages: SimpleQueue[Message] = context.SimpleQueue()
    places: SimpleQueue[int] = context.SimpleQueue()
    for place in range(jobs):
        places.put(place)
    alive, lifeline = context.Pipe(duplex=False)
    threads = max(1, count_cores() // jobs)
    pool = ProcessPoolExecutor(jobs, context, _begin, (messages, places, alive, context.RLock(), threads))
    try:
        running = {pool.submit(_train, training, fold) for fold in folds}
        finished: dict[int, FoldResult] = {}
        while running:
            ended, running = wait(running, timeout=0.1, return_when=FIRST_COMPLETED)
            while not messages.empty():
                on_epoch(*messages.get())
            for future in ended:
                result = future.result()
                finished[result.fold] = result
                on_end(result)
        return [finished[fold] for fold in folds]
    except BrokenProcessPool:
        raise UnrollError(
            f"{training.task} {training.cell}: a process that trained a fold is gone, as when memory runs out; "
            f"{JOBS}=1 trains one fold after the other, and finished ones are kept"
        ) from None
    finally:
        lifeline.close()  # ends those that still train
        pool.shutdown(cancel_futures=True)


def count_jobs(folds: int) -> int:
    """Return how many folds to train at once: what UNROLL_JOBS says, else one a core, and one on a CUDA device.

    Raises:
        UnrollError: the variable holds no number above 0.
    """
    wanted = os.environ.get(JOBS)
    if wanted is None:
        return 1 if torch.cuda.is_available() else min(folds, count_cores())
    if not wanted.isdecimal() or int(wanted) == 0:
        raise UnrollError(f"{JOBS}={wanted}: expected how many folds to train at once, a whole number above 0")
    return min(folds, int(wanted))


def count_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin(
    messages: "SimpleQueue[Message]", places: "SimpleQueue[int]", alive: Connection, lock: RLock, threads: int
) -> None:
    """Begin a process that trains folds: it hears no Ctrl-C, and ends when the one that began it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
    torch.set_num_threads(threads)
    share_terminal(places.get(), lock)
    _Messages.queue = messages


class _Messages:
    """The way to the process that began this one."""

    queue: "SimpleQueue[Message]"


def _end_with(alive: Connection) -> None:
    with suppress(EOFError, OSError):
        alive.recv()
    os._exit(1)


def _train(training: Training, fold: int) -> FoldResult:
    def tell(fold: int, record: EpochRecord, spans_per_second: float | None) -> None:
        _Messages.queue.put((fold, record, spans_per_second))

    return training.train(fold, load_material(training.corpus), tell)
