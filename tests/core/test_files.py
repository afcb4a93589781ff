import errno
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from unroll.core.errors import UnrollError, explain_fault
from unroll.core.files import (
    check_archive,
    copy_folder,
    new_file,
    new_folder,
    new_output,
    read_json,
    sha256_of,
    write_json,
)


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


def test_an_output_replaces_only_files_that_were_written_with_it(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for text in ("old", "new"):
        with new_output(target) as scratch:
            (scratch / "below").mkdir()
            (scratch / "below/file").write_text(text)
    assert (target / "below/file").read_text() == "new"
    for name in ("below/mine", ".mine"):
        (target / name).write_text("mine")
        with pytest.raises(UnrollError, match=rf"{target / name}: not written by unroll"), new_output(target):
            pass
        assert (target / name).read_text() == "mine"
        (target / name).unlink()
    (target / "manifest.json").unlink()
    with pytest.raises(UnrollError, match=r"below/file: not written by unroll"), new_output(target):
        pass


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
        assert sorted(tmp_path.glob(".made.*.part")) == sorted([one, other])
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


def test_a_replaced_file_keeps_its_permissions_and_a_link_its_target(tmp_path: Path) -> None:
    target, link = tmp_path / "real/file.txt", tmp_path / "link.txt"
    write_json(target, "old")
    target.chmod(0o640)
    link.symlink_to(target)
    write_json(link, "new")
    assert link.is_symlink()
    assert (read_json(target), target.stat().st_mode & 0o777) == ("new", 0o640)


def test_a_pipe_is_written_through(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
    with new_file(pipe) as scratch:
        scratch.write_text("through")
    assert reader.communicate()[0] == b"through"
    assert list(tmp_path.iterdir()) == [pipe]


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bomb.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("zeros.txt", "w") as member:
        for _ in range(65):
            member.write(bytes(1 << 20))
    with zipfile.ZipFile(file) as archive, pytest.raises(UnrollError, match=r"bomb.zip: zeros.txt: unpacks to 68,"):
        check_archive(archive, "bomb.zip")


def test_a_folder_is_copied_and_a_full_disk_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    for name in ("a.json", "b.npz", "inner/c.txt"):
        (source / name).write_text(name)
    copy = copy_folder(source, tmp_path / "copy", "*.npz")
    assert sorted(str(path.relative_to(copy)) for path in copy.rglob("*.*")) == ["a.json", "inner/c.txt"]
    assert (copy / "inner/c.txt").read_text() == "inner/c.txt"

    def fail(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(OSError, match="No space left") as caught:
        copy_folder(source, tmp_path / "other")
    assert "free some disk space" in str(explain_fault(caught.value))
