"""All trainings of a task in one pool: of processes with one thread each, or of the nodes of a Ray cluster.

A network as small as these gains little from a second thread, so on a CPU every core gets a training of its own.
"""

import copy
import os
import signal
import sys
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
import torch
from joblib.externals.loky import get_reusable_executor

from unroll.core.errors import UnrollError
from unroll.core.files import new_folder
from unroll.training.cache import FoldResult
from unroll.training.cross_validation import Training
from unroll.training.distributed import join_processes, trains_on_cpu
from unroll.training.fold_data import TrainingData
from unroll.training.pretraining import Pretraining
from unroll.training.progress import clear_bars, print_line, shared_terminal, take_line
from unroll.training.state import EpochRecord, OnEpoch

JOBS = "UNROLL_JOBS"
Trainable = Training | Pretraining
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}  # a cell's work grows with them; the longest trainings start first


class FoldListener:
    """Follows a training in the process that trains; this one does nothing.

    Each training gets a copy, which is pickled if it runs in another process.
    """

    def begin(self, cell: str, fold: int | None, run_id: str | None) -> str | None:
        """Return the id of the fold's MLflow run, which is kept with its checkpoints.

        Args:
            cell: "RNN", "LSTM" or "GRU".
            fold: the one held out; None in a training on a corpus.
            run_id: returned here by the interrupted training that this one continues, if any.
        """
        return None

    def epoch(self, record: EpochRecord, spans_per_second: float | None) -> None:
        """Note an epoch; without a speed it is one that the interrupted training finished."""

    def end(self, digest: str, scores: dict[str, float]) -> None:
        """Note the sha256 of the weights; best_epoch, and accuracy, macro_f1 and log_loss on the rows held out."""


def train_all(
    trainings: Sequence[Trainable], data: TrainingData, *, cache: Path, listener: FoldListener
) -> list[FoldResult]:
    """Train the folds that the cache lacks, print a line for each, and return the results in the order given.

    Under torchrun all processes call this together and train one fold after another; the main one alone can read the
    results.

    Raises:
        UnrollError: the first that a training raised, or a process was killed. Finished folds are kept; the others
            continue from their last checkpoint in the next call.
    """
    processes, pool = join_processes(), Pool(data, cache, listener)
    results = [FoldResult.of(training.key(data), cache) for training in trainings]
    finished = processes.from_main([processes.is_main and result.is_finished() for result in results])
    pairs = list(zip(trainings, finished, strict=True))
    for training in [training for training, is_finished in pairs if is_finished and processes.is_main]:
        pool.report(training, "from the cache")
    left = sorted((each for each, is_finished in pairs if not is_finished), key=lambda each: -GATES[each.cell])
    for training, seconds in pool.train(left):
        if processes.is_main:
            pool.report(training, f"{seconds:.0f} s")
    return results


def train_once(
    training: Trainable, data: TrainingData, cache: Path, on_epoch: OnEpoch = lambda record, speed: None
) -> FoldResult:
    """Train and save the result in the cache, or find it there.

    Under torchrun all processes call this together; the main one alone uses the cache, on_epoch (see fit) and the
    result.
    """
    processes = join_processes()
    if len(set(processes.gather(training.key(data)))) > 1:
        raise UnrollError(
            "the processes differ in settings, corpus, code or libraries; use the same commit, params.yaml, "
            "data/corpus and requirements on every machine"
        )
    result = FoldResult.of(training.key(data), cache)
    if not processes.from_main(processes.is_main and result.is_finished()):
        training.train(data, result, on_epoch)
    return result


def count_jobs(trainings: int) -> int:
    """Return how many trainings run at once: UNROLL_JOBS if set, else one per core; one on another device than the CPU.

    Raises:
        UnrollError: the variable is not a number above 0.
    """
    value = os.environ.get(JOBS, str(joblib.cpu_count() if trains_on_cpu() else 1))
    if not value.isdecimal() or int(value) < 1:
        raise UnrollError(f"{JOBS}: found {value!r}, expected how many training runs at once, 1 or more")
    return min(trainings, int(value))


@dataclass(frozen=True)
class Pool:
    """Trains folds on one corpus into one cache."""

    data: TrainingData
    cache: Path
    listener: FoldListener

    def train(self, trainings: Sequence[Trainable]) -> Iterator[tuple[Trainable, float]]:
        """Train all, where there is room, and yield each as it finishes, with the seconds that it took."""
        ray = sys.modules.get("ray")
        if join_processes().count > 1 or not trainings:
            return map(self.train_one, trainings)
        if "RAY_ADDRESS" in os.environ or (ray is not None and ray.is_initialized()):
            return self.train_on_ray(trainings)
        jobs = count_jobs(len(trainings))
        return self.train_in_processes(trainings, jobs) if jobs > 1 else map(self.train_one, trainings)

    def train_one(self, training: Trainable) -> tuple[Trainable, float]:
        """Train one fold in this process."""
        began = time.monotonic()
        processes = join_processes()
        listener = copy.copy(self.listener) if training.refit is None else FoldListener()  # a run is of a fold
        if trains_on_cpu() and processes.count == 1:
            torch.set_num_threads(1)
        result = FoldResult.of(training.key(self.data), self.cache)
        if processes.is_main:
            note = result.checkpoints / "run_id"
            run_id = listener.begin(training.cell, training.fold, note.read_text() if note.is_file() else None)
            if run_id:
                note.parent.mkdir(parents=True, exist_ok=True)
                note.write_text(run_id)
        train_once(training, self.data, self.cache, listener.epoch)
        if processes.is_main:
            scores = result.summary()
            del scores["fold"]
            listener.end(scores.pop("digest"), scores)
        return training, time.monotonic() - began

    def train_in_processes(self, trainings: Sequence[Trainable], jobs: int) -> Iterator[tuple[Trainable, float]]:
        """Train so many folds at a time, each in a process of its own."""
        warnings.filterwarnings("ignore", "A worker stopped while some jobs")  # loky replaces one that holds memory
        with shared_terminal() as scratch:
            begin = {"initializer": _begin_worker, "initargs": (os.getpid(), scratch)}
            with joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1, **begin), _interrupts_ignored():
                parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1)
                finished = parallel(joblib.delayed(self.train_one)(training) for training in trainings)
            try:
                yield from finished
            except BrokenProcessPool:
                raise UnrollError(
                    "the process of a training run was killed, as happens when memory runs out; finished folds are kept"
                    f", and {JOBS}=1 trains one at a time"
                ) from None
            finally:
                get_reusable_executor().shutdown(kill_workers=True)
                clear_bars()

    def train_on_ray(self, trainings: Sequence[Trainable]) -> Iterator[tuple[Trainable, float]]:
        """Train on the nodes of a Ray cluster, which have the package but not the project's files.

        A fold whose node is lost is trained again on another. Nodes cannot reach a local MLflow store, so nothing is
        logged live.
        """
        try:
            import ray
            from ray.util.joblib import register_ray
            from ray.util.joblib.ray_backend import RayBackend
        except ImportError:
            raise UnrollError("RAY_ADDRESS is set, but Ray is missing; pip install -r requirements-tune.txt") from None
        register_ray()
        RayBackend.supports_return_generator = True  # which joblib denies to backends like multiprocessing's
        ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
        options = {"max_restarts": 3, "max_task_retries": -1, "scheduling_strategy": "SPREAD"}
        with joblib.parallel_config("ray", n_jobs=-1, ray_remote_args=options):
            parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1)
            finished = parallel(joblib.delayed(_train_remotely)(self.data, training) for training in trainings)
        try:
            for training, seconds, key, files in finished:
                if key != training.key(self.data):
                    raise UnrollError(f"{training}: the Ray node has other versions of unroll or its libraries")
                with new_folder(FoldResult.of(training.key(self.data), self.cache).done) as scratch:
                    for name, content in files.items():
                        (scratch / name).write_bytes(content)
                yield training, seconds
        except ray.exceptions.RayError as error:
            raise UnrollError(f"Ray: {error}; finished folds are kept; run the same command to continue") from None

    def report(self, training: Trainable, note: str) -> None:
        """Print a line about a finished fold."""
        summary = FoldResult.of(training.key(self.data), self.cache).summary()
        print_line(f"{training}: {training.describe(summary)}, {note}")


def _train_remotely(data: TrainingData, training: Trainable) -> tuple[Trainable, float, str, dict[str, bytes]]:
    """Train on a node of a cluster, and return the fold's key and files."""
    with TemporaryDirectory() as cache:
        _, seconds = Pool(data, Path(cache), FoldListener()).train_one(training)
        files = FoldResult.of(training.key(data), Path(cache)).done.iterdir()
        return training, seconds, training.key(data), {file.name: file.read_bytes() for file in files}


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
    take_line(scratch)
