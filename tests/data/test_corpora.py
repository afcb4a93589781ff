import io
import json
import tarfile
import zipfile
from hashlib import md5
from pathlib import Path

import pytest

from tests.support.served import Served
from unroll.core.errors import UnrollError
from unroll.core.settings import CorpusConfig, DataConfig
from unroll.data.corpora import Document, find_corpus, read_documents

REVIEWS = {
    "aclImdb/README": "Large Movie Review Dataset",
    "aclImdb/imdb.vocab": "the\nand",
    "aclImdb/train/urls_pos.txt": "http://www.imdb.com/title/tt0453418/usercomments",
    "aclImdb/train/pos/0_9.txt": "A fine film.<br /><br />See it.",
    "aclImdb/train/neg/1_1.txt": "Dull \u2013 very dull.",
    "aclImdb/train/unsup/0_0.txt": "A film.",
    "aclImdb/test/pos/0_10.txt": "A fine film.<br /><br />See it.",
    "aclImdb/test/neg/3_2.txt": "Not for me.",
}
EXPECTED = [
    Document("Dull \u2013 very dull.", "neg"), Document("A fine film.  See it.", "pos"), Document("A film."),
    Document("Not for me.", "neg"),
]  # fmt: skip
ANY = CorpusConfig(source="anywhere")


def write_archive(path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in REVIEWS.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def read(path: Path, corpus: CorpusConfig = ANY) -> list[Document]:
    return list(read_documents(path, corpus))


def key(document: Document) -> str:
    return document.text


@pytest.mark.parametrize("form", ["tar", "zip", "folder"])
def test_reviews_have_the_label_of_their_folder_and_each_text_comes_once(tmp_path: Path, form: str) -> None:
    path = write_archive(tmp_path / "reviews.tar.gz")
    if form == "folder":
        with tarfile.open(path) as archive:
            archive.extractall(tmp_path / "reviews", filter="data")
        path = tmp_path / "reviews"
    if form == "zip":
        path = tmp_path / "reviews.zip"
        with zipfile.ZipFile(path, "w") as packed:
            for name, text in REVIEWS.items():
                packed.writestr(name, text)
    assert sorted(read(path), key=key) == sorted(EXPECTED, key=key)


def test_other_folders_tables_and_lines_have_texts_too(tmp_path: Path) -> None:
    (tmp_path / "texts/a").mkdir(parents=True)
    (tmp_path / "texts/a/1.txt").write_text("one")
    (tmp_path / "texts/2.txt").write_text("two")
    (tmp_path / "texts/notes.md").write_text("none")
    assert [document.text for document in read(tmp_path / "texts")] == ["two", "one"]
    (tmp_path / "lines.txt").write_bytes(b"one, two\r\n\r\n\xc3\xa9t\xc3\xa9\nNA\n")
    assert read(tmp_path / "lines.txt") == [Document("one, two"), Document("\u00e9t\u00e9"), Document("NA")]
    (tmp_path / "t.csv").write_text('id,author,text\n1,EAP,"Once, upon"\n2,,"said ""so"""\n')
    named = CorpusConfig(source="t.csv", label="author")
    assert read(tmp_path / "t.csv", named) == [Document("Once, upon", "EAP"), Document('said "so"')]
    (tmp_path / "t.jsonl").write_text(json.dumps({"body": "one\ntwo"}) + "\n")
    assert read(tmp_path / "t.jsonl", CorpusConfig(source="t.jsonl", text="body")) == [Document("one\ntwo")]
    with pytest.raises(UnrollError, match=r"t\.csv: no column 'body', which the corpus' text names; found id, author"):
        read(tmp_path / "t.csv", CorpusConfig(source="t.csv", text="body"))


def test_a_damaged_corpus_is_refused_by_name(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "reviews.tar.gz")
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-8] + b"\0" * 8, b"<html>not found</html>", b""):
        path.write_bytes(content)
        with pytest.raises(UnrollError, match=r"reviews\.tar\.gz: (damaged or incomplete|no texts)"):
            read(path)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(UnrollError, match=r"latin\.txt: "):
        read(tmp_path / "latin.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnrollError, match="empty: found no texts; expected"):
        read(tmp_path / "empty")


def test_an_address_is_looked_for_in_the_data_and_downloaded_once_otherwise(tmp_path: Path, served: Served) -> None:
    content = write_archive(tmp_path / "made.tar.gz").read_bytes()
    url, files, _ = served
    files["/reviews.tar.gz"] = content
    address = f"{url}/reviews.tar.gz"
    right = CorpusConfig(source=address, checksum=f"md5:{md5(content, usedforsecurity=False).hexdigest()}")
    data = DataConfig(source="local", dir=str(tmp_path / "data"), mirrors={})
    wrong = CorpusConfig(source=address, checksum="md5:" + "0" * 32)
    with pytest.raises(UnrollError, match=r"corpora\.reviews: http.* cannot be downloaded .*put reviews"):
        find_corpus("reviews", wrong, data, tmp_path / "cache")
    found = find_corpus("reviews", right, data, tmp_path / "cache")
    assert found is not None
    assert found.read_bytes() == content
    files.clear()
    assert find_corpus("reviews", right, data, tmp_path / "cache") == found, "it is kept"
    (tmp_path / "data/corpora").mkdir(parents=True)
    mine = write_archive(tmp_path / "data/corpora/reviews.tar.gz")
    assert find_corpus("reviews", right, data, tmp_path / "cache") == mine
    with pytest.raises(UnrollError, match=r"corpora\.x\.source: found nowhere\.txt, which is no file or folder"):
        find_corpus("x", CorpusConfig(source="nowhere.txt"), data, tmp_path)
