"""`unroll new` as a user runs it: files from Kaggle or a folder, and a definition that the pipeline reads."""

import shutil
from pathlib import Path

import pytest
import yaml
from ruamel.yaml import YAML

from tests.support.command import unroll
from tests.support.kaggle_service import SLUG, Service, serve, sign_in, zip_folder
from tests.support.project import ROOT
from unroll.cli.new import write_definition
from unroll.core.params import read_config, set_params
from unroll.stages import download, prepare


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    sign_in(monkeypatch, tmp_path / "home")
    project = tmp_path / "project"
    (project / "competitions").mkdir(parents=True)
    shutil.copyfile(ROOT / "params.yaml", project / "params.yaml")
    monkeypatch.chdir(project)
    return project


def test_files_are_downloaded_looked_at_and_used(project: Path) -> None:
    set_params(project / "params.yaml", {"pretrained": ["sentiment"]})  # as the best profile has it
    with serve(Service(zip_folder(ROOT / "data/sample" / SLUG))):
        done = unroll(project, "new", SLUG, "--source", "kaggle", "--name", "movies", "--only", "--metric", "accuracy")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("written: competitions/movies.yaml\nnext: dvc repro\n")
    definition = yaml.safe_load((project / "competitions/movies.yaml").read_text())
    assert definition["competition"] == SLUG
    assert (definition["id"], definition["text"], definition["group"]) == ("PhraseId", ["Phrase"], "SentenceId")
    assert definition["target"] == {"columns": ["Sentiment"], "kind": "classes", "labels": ["0", "1", "2", "3", "4"]}
    config = read_config(project / "params.yaml")
    assert (config.tasks, config.data.source, config.data.dir) == (("movies",), "local", "data/competitions")
    download.main("movies")
    prepare.main("movies")
    done = unroll(project, "new", SLUG, "--source", "kaggle", "--name", "movies")
    assert done.stderr == "error: competitions/movies.yaml: exists; give another --name, or --force to replace it\n"


@pytest.mark.parametrize("served", ["another", "cut"])
def test_what_cannot_be_downloaded_leaves_nothing(project: Path, served: str) -> None:
    whole = zip_folder(ROOT / "data/sample" / SLUG)
    service = Service(whole[: len(whole) // 2]) if served == "cut" else Service(whole, slug="another")
    with serve(service):
        done = unroll(project, "new", SLUG, "--source", "kaggle")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert SLUG in done.stderr
    assert [path for path in project.rglob("*") if path.is_file()] == [project / "params.yaml"]


def test_a_definition_keeps_names_of_any_characters(tmp_path: Path) -> None:
    keys = {"text": ["na\u00efve \u6587", "a\x7fb", "c: #d"], "id": "\U0001f600", "decimals": None}
    write_definition(tmp_path / "found.yaml", keys)
    written = (tmp_path / "found.yaml").read_text()
    assert YAML(typ="safe").load(written) == keys
    assert "\U0001f600" in written
