"""What the tests of faults share: small projects to break, and a table of what came of it."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import pytest

from tests.support.project import Project, copy_project, make_small

Tell = Callable[[str, str], None]
INJECTED = Path(__file__).parent / "injected"
TRAIN = ("python", "-m", "unroll.stages.train", "sentiment", "GRU")
STAGES = ("download", "prepare", "tokenize")


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Put a line into the table at the end: the fault and what happened. A test that ends well has lost nothing."""

    def add(fault: str, happened: str) -> None:
        request.node.user_properties.append(("fault", (fault, happened)))

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    lines = [
        (*map(str, content), "nothing" if report.passed else "SEE THE FAILURE")
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, content in report.user_properties
        if name == "fault" and isinstance(content, list | tuple)
    ]
    if not lines:
        return
    table = [("fault", "what happened", "lost"), *sorted(lines)]
    widths = [max(len(line[column]) for line in table) for column in range(3)]
    terminalreporter.section("faults")
    for line in table:
        terminalreporter.write_line("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)))


@pytest.fixture(scope="session")
def tokenized_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A small project up to its corpus, made once for all processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "tokenized"
    with filelock.FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            project = copy_project(tmp_path_factory.mktemp("project"))
            make_small(project)
            project.set("sentiment.train.epochs", 4)
            project.set("sentiment.split.run_folds", [0])
            project.commit("small")
            for stage in STAGES:
                project.run("python", "-m", f"unroll.stages.{stage}", "sentiment")
            folder.symlink_to(project.folder)
    return folder.resolve()


@pytest.fixture
def tokenized(tokenized_folder: Path, tmp_path: Path) -> Project:
    """A copy of that project."""
    shutil.copytree(tokenized_folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


@pytest.fixture(scope="session")
def trained(tokenized_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a training that nothing stopped writes, by name."""
    folder = tmp_path_factory.mktemp("trained") / "project"
    shutil.copytree(tokenized_folder, folder, symlinks=True)
    project = Project(folder)
    train(project)
    return models(project)


def train(project: Project, *, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the stage as DVC does."""
    return project.run(*TRAIN, check=check, **variables)


def models(project: Project) -> dict[str, bytes]:
    """Return what the stage train writes under a final name, what a killed one left beside it not counted."""
    found = project.state().items()
    return {name: content for name, content in found if name.startswith("models/") and ".part/" not in name}


def told(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one sentence of a program that ended on a mistake."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return next(line for line in done.stderr.splitlines() if line.startswith("error: "))


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """Put a file system of that size in a folder's place; a test that may not mount is skipped with a word."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("no right to mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder read-only, for root too; a test that may not mount is skipped with a word."""
    folder.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", "--bind", str(folder), str(folder)], capture_output=True).returncode:
        pytest.skip("no right to mount a folder read-only")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True, capture_output=True)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
