import signal
import subprocess
import sys
from pathlib import Path

import pytest

from unroll.core.errors import UnrollError
from unroll.core.files import new_file, new_folder, read_json, sha256_of, write_json


def test_a_folder_takes_its_name_only_when_the_block_ends_well(tmp_path: Path) -> None:
    target = tmp_path / "a/target"
    with new_folder(target) as scratch:
        (scratch / "old").write_text("old")
        assert not target.exists()
    with pytest.raises(RuntimeError), new_folder(target) as scratch:  # noqa: PT012
        (scratch / "new").write_text("half")
        raise RuntimeError
    assert [path.name for path in target.iterdir()] == ["old"]
    with new_folder(target) as scratch:
        (scratch / "new").write_text("new")
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_a_file_takes_its_name_only_when_the_block_ends_well(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    write_json(target, {"é": 1})
    with pytest.raises(RuntimeError), new_file(target) as scratch:  # noqa: PT012
        scratch.write_text("half")
        raise RuntimeError
    assert read_json(target) == {"é": 1}
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    code = (
        "import os, signal; from pathlib import Path; from unroll.core.files import new_file, new_folder\n"
        "with new_folder(Path('made')) as folder, new_file(Path('made.txt')) as file:\n"
        "    (folder / 'half').write_text('half'); file.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".*.part"))) == 2
    with new_folder(tmp_path / "made") as one, new_folder(tmp_path / "made") as other:
        (one / "file").write_text("one")
        (other / "file").write_text("other")
        assert sorted(tmp_path.glob(".made.????????.part")) == sorted([one, other])
    with new_file(tmp_path / "made.txt") as scratch:
        scratch.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "made.txt"]


def test_a_hash_sees_content_order_and_folders(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    assert sha256_of(tmp_path) == sha256_of(tmp_path / "a", tmp_path / "b")
    assert sha256_of(tmp_path) != sha256_of(tmp_path / "b", tmp_path / "a")


@pytest.mark.parametrize("content", ["{", "", "\x00"])
def test_damaged_json_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UnrollError, match=r"x.json: not readable as JSON"):
        read_json(tmp_path / "x.json")
