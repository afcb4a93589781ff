"""What all commands share: help, the folder they run in, and `make`."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from tests.support.command import unroll
from tests.support.project import ROOT, Project, copy_project
from unroll.cli.app import app
from unroll.core.params import read_config
from unroll.data.competition import load_competition

COMMANDS = list(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("project") / "a b%20c"  # a space, and what a URL would decode
    folder.mkdir()
    return copy_project(folder)


def test_a_folder_of_data_is_resolved_checked_and_chosen(project: Project, tmp_path: Path) -> None:
    for name in ("sentiment-analysis-on-movie-reviews", "surnames"):
        (tmp_path / name).mkdir()
    assert unroll(project.folder, "data", str(tmp_path)).returncode == 0
    values = yaml.safe_load((project.folder / "params.yaml").read_text())
    assert values["data"] == {"source": "local", "dir": str(tmp_path), "mirrors": {}}
    assert unroll(project.folder, "data", "--source", "kaggle").returncode == 0
    assert yaml.safe_load((project.folder / "params.yaml").read_text())["data"]["source"] == "kaggle"
    assert unroll(project.folder, "data").returncode == 0
    values = yaml.safe_load((project.folder / "params.yaml").read_text())
    assert values["data"] == {"source": "kaggle", "dir": str(tmp_path), "mirrors": {}}, "what is not given stays"
    assert unroll(project.folder, "data", "data/sample").returncode == 0
    values = yaml.safe_load((project.folder / "params.yaml").read_text())
    assert values["data"] == {"source": "local", "dir": "data/sample", "mirrors": {}}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["data", "nowhere"], "error: nowhere: no such folder; README.md shows the layout of DATA=<folder>"),
        (["data", "src"], "error: src/sentiment-analysis-on-movie-reviews: no such folder"),
        (
            ["data", "data/raw/mine"],
            "error: data/raw/mine: is inside data/raw, which the pipeline writes; move the files",
        ),
        (["data", "--source", "s3"], "'s3' is not one of 'local', 'kaggle'"),
        (["results"], "error: reports/metrics/sentiment.json: no such file"),
    ],
)
def test_a_mistake_is_one_sentence_and_a_status(project: Project, arguments: list[str], told: str) -> None:
    (project.folder / "reports/metrics/sentiment.json").unlink(missing_ok=True)
    before = (project.folder / "params.yaml").read_text()
    done = unroll(project.folder, *arguments)
    assert done.returncode != 0
    assert told in " ".join(done.stderr.split()).replace("│", "")
    assert "Traceback" not in done.stderr
    assert (project.folder / "params.yaml").read_text() == before


def test_outside_a_git_repository_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    done = unroll(tmp_path, "data")
    assert done.returncode == 1
    assert "not a git repository, which DVC needs" in done.stderr


def test_outside_the_project_it_says_where_to_go(project: Project) -> None:
    before = sorted(project.folder.rglob("*"))
    for command in ("data", "doctor", "ui"):
        done = unroll(project.folder / "src", command)
        assert done.returncode == 1
        assert done.stderr == f"error: params.yaml: no such file; run this in the project's folder, {project.folder}\n"
    assert sorted(project.folder.rglob("*")) == before


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_is_there_and_loads_nothing_heavy(command: str | None) -> None:
    arguments = ["--help"] if command is None else [command, "--help"]
    code = (
        "import sys; from unroll.cli.app import app\n"
        f"try: app({arguments}, prog_name='unroll')\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'mlflow', 'kaggle', 'pandas', 'matplotlib', 'sklearn', 'torchtext'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if command is None:
        for known in COMMANDS:
            assert known in done.stdout
    else:
        assert f"Example: unroll {command}" in done.stdout


def test_doctor_without_a_home_says_that_submitting_alone_needs_it(project: Project) -> None:
    done = project.run("unroll", "doctor", "--offline", check=False, HOME="/proc")  # where nobody can write
    assert "warn  Kaggle        Kaggle: the client cannot make its folder /proc/" in done.stdout
    assert "→ set KAGGLE_CONFIG_DIR to a folder that can be written\n" in done.stdout
    assert done.stdout.endswith("ready: `make repro` can run\n")


def test_make_help_lists_the_targets() -> None:
    out = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("repro", "test", "check", "ui", "clean"):
        assert target in out


def test_make_refuses_a_folder_that_is_not_there_before_dvc_starts(project: Project) -> None:
    venv, version = project.folder / ".venv", f"{sys.version_info.major}.{sys.version_info.minor}"
    (venv / "bin").mkdir(parents=True, exist_ok=True)
    for program in Path(sys.executable).parent.iterdir():
        if program.name != "activate" and not (venv / "bin" / program.name).exists():
            (venv / "bin" / program.name).symlink_to(program)
    (venv / "bin/activate").write_text(f"VIRTUAL_ENV={venv}\n")
    number = subprocess.run(["cksum"], input=f"{venv}\n", capture_output=True, text=True, check=True).stdout.split()[0]
    (venv / f".ready-{version}-{number}").touch()
    done = project.run("make", "repro", "DATA=nowhere", check=False)
    assert done.returncode != 0
    assert "error: nowhere: no such folder" in done.stderr
    assert "Running stage" not in done.stdout


def test_a_new_competition_is_a_file_and_the_only_task(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "spooky-authors"
    folder.mkdir()
    (folder / "train.csv").write_text(
        "id,text,author\n" + "".join(f"a{n},it is row {n},{'XY'[n % 2]}\n" for n in range(9))
    )
    (folder / "test.csv").write_text("id,text\nb,it is a row\n")
    done = project.run("unroll", "new", str(folder), "--only", "--metric", "log_loss")
    assert "written: competitions/spooky.yaml" in done.stdout
    task = load_competition(project.folder / "competitions/spooky.yaml")
    assert (task.outputs, task.metric, task.form, task.folder) == (("X", "Y"), "log_loss", "probabilities", folder.name)
    config = read_config(project.folder / "params.yaml")
    assert (config.tasks, config.data.dir) == (("spooky",), "data/competitions")
    assert config.task["spooky"] == config.defaults
    project.run("dvc", "repro", "prepare@spooky")
    again = project.run("unroll", "new", str(folder), check=False)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert "competitions/spooky.yaml: exists; give another --name, or --force" in again.stderr
