"""Lexicons, read from installed packages as text."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from unroll.core.errors import UnrollError
from unroll.text.lexicons import LEXICONS, Entries, read_lexicon, read_senticnet, read_textblob, read_vader
from unroll.text.vectors import load_vectors
from unroll.text.vocabulary import Vocabulary

VADER = ":)\t2.0\t1.18322\t[2, 2]\nGreat\t3.1\t0.7\t[3, 4]\n\n"
SENTICNET = """#senticnet['concept_name'] = ['introspection_value', 'temper_value']
senticnet = {}
raise SystemExit("run")
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
def test_a_lexicon_is_read_as_text(
    read: Callable[[Iterable[str]], Entries], content: str, expected: dict[str, list[float]]
) -> None:
    assert dict(read(content.splitlines(keepends=True))) == expected


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, content: str | None) -> None:
    """Put a distribution of senticnet, whose module must not be imported, first on the path."""
    (folder / "senticnet").mkdir()
    (folder / "senticnet-1.6.dist-info").mkdir()
    (folder / "senticnet-1.6.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: senticnet\nVersion: 1.6\n")
    if content is not None:
        (folder / "senticnet/senticnet6.py").write_text(content)
    monkeypatch.syspath_prepend(str(folder))


def test_an_installed_lexicon_is_looked_up_by_word_and_lower_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, SENTICNET)
    found = load_vectors("lexicon:senticnet", Vocabulary(("<unk>", "Great", "never")), tmp_path / "cache")
    np.testing.assert_array_equal(found[1], np.array([0.9, 0, -0.1, 0.8, 0.9, 0.5], np.float32))
    assert np.isnan(found[[0, 2]]).all()
    assert "senticnet" not in sys.modules
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "damaged"),
        ("senticnet['great'] = ['0.9', 'x', '0', '0', '', '', '', '0']\n", "damaged"),
        ("senticnet['great'] = ['0.9']\n", "damaged"),
        ("nothing\n", "found no such line"),
    ],
)
def test_a_damaged_lexicon_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, told: str
) -> None:
    install(tmp_path, monkeypatch, content)
    with pytest.raises(UnrollError, match=f"senticnet.*{told}"):
        load_vectors("lexicon:senticnet", Vocabulary(("<unk>",)), tmp_path)


@pytest.mark.parametrize("name", LEXICONS)
def test_a_lexicon_that_is_not_installed_names_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(sys, "path", [])
    package = LEXICONS[name][0]
    with pytest.raises(UnrollError, match=rf"{package} is not installed; `pip install --no-deps -r requirements-lex"):
        read_lexicon(name)


@pytest.mark.parametrize(
    ("name", "size", "words"), [("vader", 3, 7000), ("senticnet", 6, 150_000), ("textblob", 3, 1000)]
)
def test_the_pinned_packages_hold_their_lexicons(name: str, size: int, words: int) -> None:
    try:
        entries = read_lexicon(f"lexicon:{name}")
    except UnrollError as error:
        pytest.skip(str(error))
    assert len(entries) > words
    assert {len(numbers) for numbers in entries.values()} == {size}
    assert np.isfinite(entries["good"]).all()
