import zipfile
from pathlib import Path

import pytest

from unroll.core.errors import UnrollError
from unroll.data.tables import CsvOptions, TextFile, find_text_file


def read(content: bytes, *columns: str, name: str = "f.csv") -> dict[str, list[str]]:
    table: dict[str, list[str]] = TextFile(Path("f"), name, content).read_columns(columns).to_pydict()
    return table


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xef\xbb\xbfb,a\r\n1,NA\r\n,None\r\n", {"a": ["NA", "None"]}),
        (b"a,b\r1,null\r3,4", {"a": ["1", "3"]}),
        (b'a,b\n"x,\n""y""\r\nz",1\n"",2\n', {"a": ['x,\n"y"\r\nz', ""]}),
        (b"a,b\n\n1,2\n\n\n", {"a": ["1"]}),
        (b"a\n\nx\n\n", {"a": ["", "x", ""]}),
        (b'a,b\n\xc3\xa9 "x",2', {"a": ['é "x"']}),
    ],
)
def test_a_csv_is_read_letter_for_letter(content: bytes, expected: dict[str, list[str]]) -> None:
    assert read(content, "a") == expected


def test_a_tsv_has_no_quoting() -> None:
    assert read(b'a\tb\n"x\t1\ny"\t\n', "b", "a", name="f.tsv") == {"b": ["1", ""], "a": ['"x', 'y"']}


def test_a_field_may_be_long() -> None:
    assert read(b'a,b\n1,2\n"' + b"x" * 20_000_000 + b'",3\n', "a") == {"a": ["1", "x" * 20_000_000]}
    with pytest.raises(UnrollError, match=r"f: line 3: a quoted field has no closing quote"):
        read(b'a,b\n1,2\n"' + b"x\n" * 4_000_000, "a")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "f: the file is empty"),
        (b"\xef\xbb\xbf\r\n \n", "f: line 1: found an empty line"),
        (b"a,b", "f: has a header and no rows"),
        (b"\na\nx\n", "f: line 1: found an empty line, expected the names of the columns"),
        (b"b,c\n1,2\n", "f: line 1: expected a column a, found the columns b, c"),
        (b"a,a\n1,2\n", "f: line 1: expected a column a, found it twice"),
        (b"id;a\n1;x\n", "f: line 1: found one column 'id;a', expected commas between columns"),
        (b'a,b\n"1\n2",x\n\n3\n', "f: line 5: expected 2 fields, as in line 1, found 1"),
        (b'a,"b\nb"\n1,2\n1,2,3\n', "f: line 4: expected 2 fields, as in line 1, found 3"),
        (b'a,b\n""\n1,2\n', "f: line 2: expected 2 fields, as in line 1, found 1"),
        (b'a,b\n1,2\n3,"x\n4,5\n', "f: line 3: a quoted field has no closing quote"),
        (b'a,b\n1,2\n"x\n4,5', "f: line 3: a quoted field has no closing quote"),
        (b'a\n1\n"x\n4\n', "f: line 3: a quoted field has no closing quote"),
        (b'"a,b\n1,2\n', "f: line 1: a quoted field has no closing quote"),
        (b"a,b\n1,2\n3,\xe9\n", "f: line 3: byte 0xe9 is not UTF-8"),
        (b"a,b\n1,2\n3,\xc3", "f: line 3: byte 0xc3 is not UTF-8"),
        (b"a,b\n1,2\n3,\0\n", "f: line 3: found a NUL byte"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "f: is a Git LFS pointer"),
        (b"\n<!DOCTYPE html>\n<html>\n", "f: line 1: found an empty line"),
        (b"  <!DOCTYPE html>\n<html>\n", "f: is a web page, not a table; download the file itself"),
        (b"<html><body>Sign in</body></html>", "f: is a web page"),
        (b"PK\x03\x04\x14\0\x06\0", "f: is a zip archive or an Excel workbook, expected text in UTF-8"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(content: bytes, told: str) -> None:
    with pytest.raises(UnrollError) as error:
        read(content, "a")
    assert str(error.value).startswith(told)


def test_half_a_character_in_json_is_refused_with_its_line() -> None:
    whole = b'{"a": "\\ud83d\\ude00"}\n'
    assert read(whole, "a", name="f.jsonl") == {"a": ["\U0001f600"]}
    with pytest.raises(UnrollError, match=r"f: line 2: expected a JSON object; 'utf-8' codec can't encode"):
        read(whole + b'{"a": "\\ud83d"}\n', "a", name="f.jsonl")


def test_a_file_in_another_encoding_than_the_definition_says_is_refused() -> None:
    with pytest.raises(UnrollError, match=r"f: not in the encoding utf-16 \(.*start with BOM\)"):
        TextFile(Path("f"), "f.csv", b"a,b\n1,2\n", CsvOptions(encoding="utf-16")).read_columns(["a"])


def test_bad_bytes_far_into_a_file_are_named_by_their_line() -> None:
    with pytest.raises(UnrollError, match="line 600002: byte 0xff is not UTF-8"):
        read(b"a,b\n" + b"1,2\n" * 600_000 + b"1,\xff\n", "a")


@pytest.mark.parametrize("archive", ["train.csv.zip", "train.zip"])
def test_a_zipped_file_is_found_at_any_depth(tmp_path: Path, archive: str) -> None:
    with zipfile.ZipFile(tmp_path / archive, "w") as zipped:
        zipped.writestr("__MACOSX/._train.csv", "x")
        zipped.writestr("deep/down/train.csv", "a\n1\n")
    assert find_text_file(tmp_path, "train.csv").read_columns(["a"]).to_pydict() == {"a": ["1"]}


def test_lines_end_in_any_way() -> None:
    assert TextFile(Path("f"), "f.txt", b"\xef\xbb\xbfa\r\n\nb\x0cc\rd\n").read_lines() == ["a", "", "b\x0cc", "d"]
