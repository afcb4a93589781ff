from pathlib import Path

import pytest
import yaml

from unroll.errors import UnrollError
from unroll.workspace import check_repository, set_params

PARAMS = Path(__file__).parents[1] / "params.yaml"


def test_setting_a_value_keeps_every_other_line(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    before = PARAMS.read_text()
    file.write_text(before)
    set_params(file, "data", {"dir": "/elsewhere", "source": "local"})
    changed = [(a, b) for a, b in zip(before.splitlines(), file.read_text().splitlines(), strict=True) if a != b]
    assert len(changed) == 1
    assert "/elsewhere" in changed[0][1]
    assert "`make repro DATA=<dir>`" in changed[0][1], "the comment stays"
    assert yaml.safe_load(file.read_text())["data"] == {"source": "local", "dir": "/elsewhere", "mirrors": {}}
    set_params(file, "data", {"dir": "data/sample", "source": "local"})
    assert file.read_text().split() == before.split()


def test_the_default_choice_does_not_touch_the_file(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(PARAMS.read_text())
    modified = file.stat().st_mtime_ns
    set_params(file, "data", {"source": "local", "dir": "data/sample"})
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
