import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from unroll.core.errors import UnrollError
from unroll.data.texts import Kind, format_csv, parse_texts


@pytest.mark.parametrize(
    ("kind", "content", "told"),
    [
        ("csv", '"a",name\nLi,"Xi\n', "f: line 2: a quoted field has no closing quote"),
        ("csv", "a;name\nLi;Xi\n", "f: line 1: found one column 'a;name', expected commas between columns"),
        ("csv", "first,last\nLi,Xi\n", "f: line 1: found the columns first, last, expected one"),
        ("csv", "name\n", "f: has a header and no rows"),
        ("csv", "\n\n", "f: line 1: found an empty line, expected the names"),
        (
            "csv",
            "name,text\nLi,Xi\n",
            "f: line 1: found the columns name, text, expected one",
        ),
        ("tsv", "a\tname\nLi\n", "f: line 2: expected 2 fields, as in line 1, found 1"),
        ("tsv", "\ufeff", "f: the file is empty"),
        ("lines", "\ufeff", "f: the file is empty"),
    ],
)
def test_a_mistake_in_a_file_is_named_by_its_line(kind: Kind, content: str, told: str) -> None:
    with pytest.raises(UnrollError) as error:
        parse_texts(content.encode(), "f", kind, ["name", "text"])
    assert str(error.value).startswith(told)


def test_the_only_column_needs_no_name_and_a_known_one_may_be_in_capitals() -> None:
    assert parse_texts(b"who\nLi\n\n", "f", "csv", ["name"]).texts == ["Li", ""]
    column = parse_texts(b"id\tNAME\n1\tLi\n", "f", "tsv", ["name"])
    assert (column.heading, column.texts) == ("NAME", ["Li"])


any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
one_line = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"))


@given(st.lists(any_text, min_size=1), st.integers(0, 2))
def test_any_texts_written_as_csv_come_back_the_same(texts: list[str], place: int) -> None:
    others = ["id", "none"][:place]
    rows = [[*others, "text"], *([*["1", ""][:place], text] for text in texts)]
    assert parse_texts(format_csv(rows).encode(), "f", "csv", ["text"]).texts == texts


@given(st.lists(one_line, min_size=1), st.sampled_from(["\n", "\r\n", "\r"]))
def test_any_lines_come_back_the_same(texts: list[str], end: str) -> None:
    assume(any(text.strip("\ufeff\t ") for text in texts))
    content = "\ufeff" + "".join(f"{text}{end}" for text in texts)
    assert parse_texts(content.encode(), "f", "lines", []).texts == texts
    without_tabs = [text.replace("\t", " ") for text in texts]
    table = end.join(["id\ttext", *(f"1\t{text}" for text in without_tabs)])
    assert parse_texts(table.encode(), "f", "tsv", ["text"]).texts == without_tabs
