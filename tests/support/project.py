"""A copy of the project in a folder of its own, small enough to run in a test."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Project:
    """A git repository that holds the project's files as they stand in the work tree."""

    folder: Path

    def environment(self) -> dict[str, str]:
        """Return the variables of a person who works here and has no credential; folds are trained one by one."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        hidden = ("MLFLOW_TR", "DVC_E", "KAGGLE_")
        environment = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
        return environment | {
            "PATH": path,
            "PYTHONPATH": str(self.folder / "src"),
            "OMP_NUM_THREADS": "1",
            "UNROLL_JOBS": "1",
        }

    def run(self, *command: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a person would, with the interpreter's own bin folder first on the path."""
        environment = self.environment() | variables
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def set(self, path: str, value: object) -> None:
        """Set a value of params.yaml, named by its path."""

        def change(values: dict[str, Any]) -> None:
            *sections, key = path.split(".")
            place = values
            for section in sections:
                place = place.setdefault(section, {})
            place[key] = value

        self.change_params(change)

    def change_params(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Rewrite params.yaml."""
        file = self.folder / "params.yaml"
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
        change(values)
        file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")

    def commit(self, message: str = "change") -> None:
        """Commit everything that git does not ignore."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message)

    def state(self) -> dict[str, bytes]:
        """Return the content of every stage output."""
        names = ("data/raw", "data/rows", "data/corpus", "data/ensemble", "models", "reports")
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for name in names
            for path in sorted((self.folder / name).rglob("*"))
            if path.is_file()
        }


def copy_project(folder: Path) -> Project:
    """Copy the files that git tracks or would, and commit them in a repository of their own."""
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    project = Project(folder)
    project.run("git", "init", "-q", "-b", "main")
    project.run("git", "config", "user.name", "test")
    project.run("git", "config", "user.email", "test@localhost")
    return project


def make_small(project: Project) -> None:
    """Cut the sample to a few sentences and names, the models to a few weights and the training to two epochs."""
    sentiment = project.folder / "data/sample/sentiment-analysis-on-movie-reviews"
    train = (sentiment / "train.tsv").read_text().splitlines()
    kept = [line for line in train[1:] if int(line.split("\t")[1]) <= 25]
    (sentiment / "train.tsv").write_text("\n".join([train[0], *kept]) + "\n")
    test = (sentiment / "test.tsv").read_text().splitlines()
    first = int(test[1].split("\t")[1])
    kept = [line for line in test[1:] if int(line.split("\t")[1]) < first + 6]
    (sentiment / "test.tsv").write_text("\n".join([test[0], *kept]) + "\n")
    ids = [line.split("\t")[0] for line in kept]
    lines = ["PhraseId,Sentiment", *(f"{number},2" for number in ids)]
    (sentiment / "sampleSubmission.csv").write_text("\n".join(lines) + "\n")
    for file in (project.folder / "data/sample/surnames/names").iterdir():
        file.write_text("\n".join(file.read_text().splitlines()[:12]) + "\n")

    def shrink(values: dict[str, Any]) -> None:
        for lesson in ("step_by_step", "unfolded", "embedding"):
            values["hello"][lesson]["epochs"] = 2
        for task in ("sentiment", "surnames"):
            model, train = {"embedding": 6, "hidden": 5, "layers": 1}, {"epochs": 2, "min_steps": 1}
            small = {"model": model, "train": train, "split": {"folds": 3, "run_folds": [0, 2]}}
            for section, changed in small.items():
                values[task].setdefault(section, {}).update(changed)

    project.change_params(shrink)
