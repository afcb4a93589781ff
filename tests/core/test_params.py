from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from tests.support.project import ROOT
from unroll.core.errors import UnrollError
from unroll.core.params import check_repository, choose_profile, read_config, set_params

PARAMS = ROOT / "params.yaml"


def test_setting_a_value_keeps_every_other_line(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    before = PARAMS.read_text()
    file.write_text(before)
    set_params(file, {"data": {"dir": "/elsewhere", "source": "local"}})
    changed = [(a, b) for a, b in zip(before.splitlines(), file.read_text().splitlines(), strict=True) if a != b]
    assert len(changed) == 1
    assert "/elsewhere" in changed[0][1]
    assert "`make repro DATA=<dir>`" in changed[0][1], "the comment stays"
    assert yaml.safe_load(file.read_text())["data"] == {"source": "local", "dir": "/elsewhere", "mirrors": {}}
    set_params(file, {"data": {"dir": "data/sample", "source": "local"}})
    assert file.read_text().split() == before.split()


def comments(file: Path) -> list[str]:
    return [line.partition("#")[2] for line in file.read_text().splitlines() if "#" in line]


def test_dvc_keeps_every_comment_when_an_experiment_sets_values(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(PARAMS.read_text())
    lists = ["tasks=[sentiment]", "cells=[GRU]", "defaults.split.run_folds=[0,1,2]", "defaults.model.pooling=[mean]"]
    for override in [
        "defaults.train.lr=0.002",
        "defaults.text.vectors=[a.txt]",
        *lists,
        "++sentiment.train.epochs=3",
        "seed=2",
    ]:
        apply_overrides(file, [override])
    assert comments(file) == comments(PARAMS)
    assert read_config(file).task["sentiment"].split.run_folds == (0, 1, 2)
    assert read_config(file).task["sentiment"].train.epochs == 3
    set_params(file, {"defaults": {"text": {"vectors": []}, "split": {"run_folds": [0]}}, "seed": 1})
    assert comments(file) == comments(PARAMS)


def test_the_default_choice_does_not_touch_the_file(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(PARAMS.read_text())
    modified = file.stat().st_mtime_ns
    set_params(file, {"data": {"source": "local", "dir": "data/sample"}})
    assert file.stat().st_mtime_ns == modified


def test_a_folder_without_git_is_refused_unless_dvc_does_without(tmp_path: Path) -> None:
    with pytest.raises(UnrollError, match="not a git repository, which DVC needs"):
        check_repository(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    check_repository(tmp_path)


def test_a_folder_below_a_git_repository_is_accepted(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "below").mkdir()
    check_repository(tmp_path / "below")


def test_profiles_name_the_same_keys_and_the_settings_stand_on_the_default() -> None:
    yaml_of = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "profiles").glob("*.yaml")}
    assert yaml_of.keys() == {"default", "best"}
    assert keys_of(yaml_of["default"]).keys() == keys_of(yaml_of["best"]).keys()
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert values["profile"] == "default"
    for path, value in keys_of(yaml_of["default"]).items():
        place = values
        for key in path.split("."):
            place = place[key]
        assert place == value, path


def keys_of(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= keys_of(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def test_a_profile_is_set_and_taken_back_to_the_letter(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    before = (ROOT / "params.yaml").read_text()
    file.write_text(before)
    choose_profile(file, ROOT / "profiles", "best")
    config = read_config(file)
    assert config.profile == "best"
    assert config.task["sentiment"].split.run_folds == (0, 1, 2, 3, 4)
    choose_profile(file, ROOT / "profiles", "default")
    assert file.read_text() == before


def test_a_value_changed_by_hand_stays_while_the_profile_does(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text((ROOT / "params.yaml").read_text())
    set_params(file, {"defaults": {"train": {"epochs": 3}}})
    choose_profile(file, ROOT / "profiles", "default")
    assert read_config(file).task["sentiment"].train.epochs == 3


def test_an_unknown_profile_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnrollError, match=r"profile 'fast': no file .*fast.yaml; known profiles: best, default"):
        choose_profile(ROOT / "params.yaml", ROOT / "profiles", "fast")


@pytest.mark.parametrize(
    ("content", "told"),
    [("a: [", "not readable as YAML"), ("", "expected sections, as in params.yaml, found NoneType")],
)
def test_a_profile_that_is_no_mapping_is_refused(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(UnrollError, match=rf"mine.yaml: {told}"):
        choose_profile(ROOT / "params.yaml", tmp_path, "mine")


def test_a_profile_pretrains_only_the_tasks_there_are(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(PARAMS.read_text().replace("- sentiment\n- surnames", "- surnames"))
    choose_profile(file, ROOT / "profiles", "best")
    assert read_config(file).pretrained == ()
    file.write_text(PARAMS.read_text())
    choose_profile(file, ROOT / "profiles", "best")
    assert read_config(file).pretrained == ("sentiment",)
