"""Trainings in a pool of processes: equal results, and how they end."""

import fcntl
import importlib.util
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import psutil
import pytest
import torch
from filelock import FileLock
from tqdm import tqdm

from tests.support.definitions import load_task
from unroll.core.errors import UnrollError
from unroll.core.settings import TaskConfig, TrainConfig
from unroll.text.corpus import Corpus
from unroll.text.vocabulary import Vocabulary
from unroll.training import parallel
from unroll.training.cross_validation import Training
from unroll.training.fold_data import TrainingData
from unroll.training.parallel import FoldListener, count_jobs, train_all
from unroll.training.state import EpochRecord

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
import joblib
from unroll.core.errors import run_program
from unroll.training.parallel import FoldListener, train_all
trainings, data = joblib.load(sys.argv[1])
run_program(lambda: train_all(trainings, data, cache=Path(sys.argv[2]), listener=FoldListener()))
"""


@pytest.fixture
def data(small_corpus: tuple[Corpus, Vocabulary]) -> TrainingData:
    corpus, vocabulary = small_corpus
    return TrainingData(corpus, "digest", vocabulary, None)


@pytest.fixture
def trainings(task_config: TaskConfig, full_recipe: TrainConfig) -> list[Training]:
    config = task_config.model_copy(update={"train": full_recipe})
    task = load_task("sentiment")
    return [Training(task, cell, fold, config, seed=1) for cell in ("RNN", "LSTM") for fold in (0, 2)]


def with_recipe(trainings: list[Training], **changes: object) -> list[Training]:
    config = trainings[0].config
    recipe = config.train.model_copy(update=changes)
    return [replace(each, config=config.model_copy(update={"train": recipe})) for each in trainings]


def read_results(cache: Path) -> dict[str, bytes]:
    return {str(path.relative_to(cache)): path.read_bytes() for path in cache.rglob("done/*") if path.is_file()}


@dataclass(frozen=True)
class Notes(FoldListener):
    """Writes what it is told into a folder, a file a training."""

    folder: Path

    def begin(self, cell: str, fold: int | None, run_id: str | None) -> str:
        object.__setattr__(self, "name", f"{cell} {fold}")
        self.write(f"begin {run_id} {torch.get_num_threads()} {os.environ['OMP_WAIT_POLICY']} {os.getpid()}")
        return f"run of {cell} {fold}"

    def epoch(self, record: EpochRecord, spans_per_second: float | None) -> None:
        self.write(f"epoch {record.epoch} {spans_per_second is None}")
        if record.epoch == 2 and (self.folder / "stop").exists():
            raise UnrollError("stop here")

    def end(self, digest: str, scores: dict[str, float]) -> None:
        self.write(f"end {digest} {sorted(scores)}")

    def write(self, line: str) -> None:
        with (self.folder / self.__dict__["name"]).open("a") as file:
            print(line, file=file)


def test_results_do_not_depend_on_how_many_run_at_once(
    trainings: list[Training],
    data: TrainingData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for jobs in ("1", "2"):
        monkeypatch.setenv("UNROLL_JOBS", jobs)
        notes = tmp_path / f"notes {jobs}"
        notes.mkdir()
        results = train_all(trainings, data, cache=tmp_path / jobs, listener=Notes(notes))
        assert [result.summary()["fold"] for result in results] == [0, 2, 0, 2]
        out = capsys.readouterr().out.splitlines()
        assert len(out) == 4
        assert all(
            re.fullmatch(r"sentiment (RNN|LSTM) fold [02]: best epoch \d, accuracy [01]\.\d{4}, \d+ s", line)
            for line in out
        )
        if jobs == "1":
            assert ["LSTM" in line for line in out] == [True, True, False, False], "the longest come first"
        for training, result in zip(trainings, results, strict=True):
            begin, *epochs, end = (notes / f"{training.cell} {training.fold}").read_text().splitlines()
            assert begin.startswith("begin None 1 PASSIVE ")
            assert (begin.split()[-1] == str(os.getpid())) == (jobs == "1")
            assert epochs == [f"epoch {epoch} False" for epoch in (1, 2, 3)]
            assert end == f"end {result.summary()['digest']} ['accuracy', 'best_epoch', 'log_loss', 'macro_f1']"
    assert read_results(tmp_path / "1") == read_results(tmp_path / "2")
    train_all(trainings, data, cache=tmp_path / "2", listener=Notes(tmp_path / "none"))
    assert capsys.readouterr().out.count("from the cache") == 4
    lock = tqdm.get_lock()  # type: ignore[no-untyped-call]
    assert not isinstance(lock, FileLock), "the folder of that of a pool that has ended is gone"


def test_a_training_that_continues_gets_its_run_id_back(
    trainings: list[Training], data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNROLL_JOBS", "1")
    (tmp_path / "stop").touch()
    with pytest.raises(UnrollError, match="stop here"):
        train_all(trainings[:1], data, cache=tmp_path / "cache", listener=Notes(tmp_path))
    (tmp_path / "stop").unlink()
    train_all(trainings[:1], data, cache=tmp_path / "cache", listener=Notes(tmp_path))
    told = (tmp_path / "RNN 0").read_text()
    assert "begin run of RNN 0" in told
    assert re.findall(r"epoch (\d) True", told) == ["1", "2"]
    assert not list((tmp_path / "cache").rglob("run_id")), "a finished fold needs no run to continue"


def test_the_first_error_is_raised_and_finished_folds_are_kept(
    trainings: list[Training], data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNROLL_JOBS", "2")
    broken = with_recipe(trainings[:2], lr=1e30, clip_norm=None)
    with pytest.raises(UnrollError, match=r"^sentiment RNN fold [02]: the loss is .+; lower train.lr"):
        train_all([*trainings[2:], *broken], data, cache=tmp_path, listener=FoldListener())
    assert 1 <= len(list(tmp_path.glob("*/done"))) <= 2, "the second one may have been running"


@pytest.fixture
def start(
    trainings: list[Training], data: TrainingData, tmp_path: Path
) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts two long trainings in a program of its own."""
    joblib.dump((with_recipe(trainings[2:], epochs=100_000), data), tmp_path / "long")
    started = []

    def run(**options: object) -> "subprocess.Popen[str]":
        environment = {**os.environ, "UNROLL_JOBS": "2", "PYTHONPATH": str(ROOT / "src")}
        process: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "long"), str(tmp_path / "cache")],
            env=environment, text=True, start_new_session=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},  # type: ignore[call-overload]
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def find_workers(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    found = []
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.NoSuchProcess):
            if "popen_loky" in " ".join(child.cmdline()):
                found.append(child)
    return found


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def wait_for_import(process: "subprocess.Popen[str]", cache: Path) -> None:
    wait_until(lambda: len([each for each in find_workers(process) if each.cpu_times().user > 0.3]) == 2)


def wait_for_epochs(process: "subprocess.Popen[str]", cache: Path) -> None:
    wait_until(lambda: len({path.parent for path in cache.glob("*/checkpoints/epoch-*.pt")}) == 2)


@pytest.mark.slow
@pytest.mark.parametrize("wait", [wait_for_import, wait_for_epochs])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_the_program(
    start: Callable[..., "subprocess.Popen[str]"],
    tmp_path: Path,
    end: signal.Signals,
    wait: Callable[["subprocess.Popen[str]", Path], None],
) -> None:
    process = start()
    wait(process, tmp_path / "cache")
    processes = psutil.Process(process.pid).children(recursive=True)
    began = time.monotonic()
    if end == signal.SIGINT:
        os.killpg(process.pid, end)  # as a terminal does: every process gets it
        _, err = process.communicate(timeout=20)
        assert time.monotonic() - began < 5
        assert process.returncode == 130
        assert err.startswith("interrupted: ")
        assert err.count("\n") == 1
    else:
        os.kill(process.pid, end)
    _, alive = psutil.wait_procs(processes, timeout=15)
    assert not alive


@pytest.mark.slow
def test_a_killed_process_ends_the_pool_with_advice(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    process = start()
    wait_for_epochs(process, tmp_path / "cache")
    workers = find_workers(process)
    workers[0].kill()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert re.fullmatch(r"error: the process of a training run was killed, .+; finished .+ UNROLL_JOBS=1 .+\n", err)
    assert not psutil.wait_procs(workers, timeout=15)[1]


@pytest.mark.slow
def test_each_training_has_a_line_on_a_terminal(start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 110, 0, 0))
    process = start(stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while not (b"fold 0: " in shown and b"fold 2: " in shown and b"\x1b[A" in shown and b", accuracy" in shown):
        shown += os.read(ours, 4096)
    os.killpg(process.pid, signal.SIGINT)
    with suppress(OSError):  # the terminal is closed at the end
        while more := os.read(ours, 4096):
            shown += more
    process.wait(timeout=20)
    os.close(ours)
    assert b"interrupted: " in shown
    assert b"Traceback" not in shown


def test_openmp_threads_wait_passively_in_every_process() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", "import unroll.training.fit"],
        env=environment | {"OMP_DISPLAY_ENV": "true"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = re.findall(r"OMP_WAIT_POLICY = '(\w+)'", done.stderr)  # each OpenMP prints it when it is loaded
    assert set(found) == {"PASSIVE"}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray: pip install -r requirements-grow.txt")
def test_a_lost_ray_nodes_trainings_are_repeated_on_another(
    trainings: list[Training], data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = with_recipe(trainings, epochs=200)
    monkeypatch.setenv("UNROLL_JOBS", "1")
    train_all(trainings, data, cache=tmp_path / "here", listener=FoldListener())
    joblib.dump((trainings, data), tmp_path / "trainings")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    nodes = subprocess.Popen(
        [sys.executable, str(ROOT / "tests/support/ray_nodes.py")], env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert nodes.stdin is not None
    assert nodes.stdout is not None
    try:
        environment["RAY_ADDRESS"] = nodes.stdout.readline().strip()
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "trainings"), str(tmp_path / "ray")]
        with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert "LSTM" in process.stdout.readline()
            nodes.stdin.write("kill\n")
            nodes.stdin.flush()
            assert "best epoch" in process.stdout.read()
        assert process.returncode == 0
    finally:
        nodes.stdin.close()
        nodes.wait(timeout=60)
        nodes.stdout.close()
    assert read_results(tmp_path / "ray") == read_results(tmp_path / "here")


def test_without_ray_an_address_is_an_error_that_says_what_to_install(
    trainings: list[Training], data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UnrollError, match=r"Ray is missing; pip install -r requirements-tune.txt"):
        train_all(trainings, data, cache=tmp_path, listener=FoldListener())


def test_how_many_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNROLL_JOBS", raising=False)
    monkeypatch.setattr(parallel, "trains_on_cpu", lambda: True)
    assert count_jobs(1) == 1
    assert count_jobs(1000) == joblib.cpu_count() <= len(os.sched_getaffinity(0))
    monkeypatch.setattr(parallel, "trains_on_cpu", lambda: False)
    assert count_jobs(1000) == 1
    monkeypatch.setenv("UNROLL_JOBS", "3")
    assert (count_jobs(2), count_jobs(5)) == (2, 3)
    for wrong in ("0", "-1", "two", ""):
        monkeypatch.setenv("UNROLL_JOBS", wrong)
        with pytest.raises(UnrollError, match=f"UNROLL_JOBS: found '{wrong}', expected how many training runs"):
            count_jobs(5)
