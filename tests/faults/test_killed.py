"""Every stage killed (SIGKILL) just before and just after its renames, and run again."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.faults.conftest import INJECTED, Tell, models, train
from tests.support.project import Project

pytestmark = pytest.mark.slow


def injected(project: Project, **more: str) -> dict[str, str]:
    """Return the variables that make a program count, or die at, its renames."""
    return {"PYTHONPATH": f"{INJECTED}{os.pathsep}{project.folder / 'src'}", **more}


def kill_everywhere(project: Project, command: tuple[str, ...], outputs: tuple[str, ...]) -> int:
    """Kill a stage at its renames; after each, what stands is old or new and whole, and a second run ends it.

    Of more than eight renames, as of the report's figures, eight are chosen, the first and the last among them.

    Returns:
        How many times it was killed.
    """

    def state() -> dict[str, bytes]:
        return {name: content for name, content in project.state().items() if name.startswith(outputs)}

    log = project.folder.parent / "renames"
    project.run(*command, check=True, **injected(project, RENAMES=str(log)))
    whole = state()
    assert whole
    renames = len(log.read_text().splitlines())
    chosen = sorted({round(1 + place * (renames - 1) / 7) for place in range(8)})
    for number in chosen:
        for side in "-+":
            killed = project.run(*command, check=False, **injected(project, KILL_AT=f"{number}{side}"))
            if killed.returncode == 0:  # a rename fewer, because there is nothing to move aside or to resume
                continue
            assert killed.returncode == -signal.SIGKILL, killed.stderr
            named = {name: content for name, content in state().items() if ".part" not in name}
            assert named.items() <= whole.items(), "half a file under a final name, or another file"
        project.run(*command)
        assert state() == whole
        assert not list(project.folder.glob("**/.*.part")), "what a killed program left is still there"
    return 2 * len(chosen)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("stage", "outputs"), [("download", "data/raw/sentiment"), ("tokenize", "data/corpus/sentiment/tokens")]
)
def test_a_stage_killed_at_its_renames(tokenized: Project, stage: str, outputs: str, tell: Tell) -> None:
    times = kill_everywhere(tokenized, ("python", "-m", f"unroll.stages.{stage}", "sentiment"), (outputs,))
    tell(f"SIGKILL in {stage}", f"killed at {times} points: old or new files, a second run is the same")


@pytest.mark.faults
@pytest.mark.timeout(1500)  # the report takes half a minute, and is made a dozen times
@pytest.mark.parametrize(
    ("stage", "outputs"),
    [
        (("submission", "sentiment"), ("reports/submissions/sentiment",)),
        (("report",), ("reports/index.html", "reports/figures")),
    ],
)
def test_a_late_stage_killed_at_its_renames(
    small_project: Project, stage: tuple[str, ...], outputs: tuple[str, ...], tell: Tell
) -> None:
    times = kill_everywhere(small_project, ("python", "-m", f"unroll.stages.{stage[0]}", *stage[1:]), outputs)
    tell(f"SIGKILL in {stage[0]}", f"killed at {times} points: old or new files, a second run is the same")


# Before and after checkpoints of epochs; before the finished fold's first file, after its summary and its manifest;
# before and after the fold's folder takes its name; after run.json; before and after the model folder takes its name.
# An attempt to move an old folder aside counts.
WAY = ("1-", "1+", "2-", "1+", "1+", "1-", "3+", "4+", "6-", "6+", "1+", "4-", "4+")


@pytest.mark.faults
def test_training_killed_at_each_rename_ends_with_the_same_weights(
    tokenized: Project, trained: dict[str, bytes], tell: Tell
) -> None:
    for at in WAY:
        assert not models(tokenized), "the stage's output stands before it is whole"
        killed = train(tokenized, check=False, **injected(tokenized, KILL_AT=at))
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert models(tokenized) == trained  # the last kill came just after the rename that gives it its name
    shutil.rmtree(tokenized.folder / "models")
    done = train(tokenized)
    assert done.stdout.count("from the cache") == 1
    assert models(tokenized) == trained
    tell("SIGKILL in train", f"killed {len(WAY)} times on one way: the same weights bit for bit")


def test_training_killed_after_an_epoch_goes_on_from_it(
    tokenized: Project, trained: dict[str, bytes], tell: Tell
) -> None:
    killed = train(tokenized, check=False, **injected(tokenized, KILL_AT="2+"))
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in sorted((tokenized.folder / ".cache/folds").glob("*/checkpoints/*.pt"))] == [
        "epoch-000001.pt", "epoch-000002.pt",
    ]  # fmt: skip
    train(tokenized, check=True, **injected(tokenized, RENAMES=str(tokenized.folder.parent / "renames")))
    renamed = [Path(line).name for line in (tokenized.folder.parent / "renames").read_text().splitlines()]
    assert renamed[:2] == ["epoch-000003.pt", "epoch-000004.pt"]
    assert models(tokenized) == trained
    assert not list(Path(tokenized.folder).glob(".cache/folds/*/checkpoints"))
    tell("SIGKILL after an epoch", "goes on from the next one, the same weights bit for bit")
