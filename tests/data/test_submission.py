from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.definitions import load_task
from unroll.core.errors import UnrollError
from unroll.data.submission import check_submission, make_submission

TASK = load_task("sentiment")


def make(row_ids: list[int], classes: list[int], wanted: list[int]) -> pd.DataFrame:
    return make_submission(TASK, pd.Series(row_ids), np.array(classes), pd.Series(wanted))


def test_a_submission_has_the_wanted_ids_in_the_wanted_order() -> None:
    assert make([4, 5, 6], [0, 4, 2], [6, 4, 5]).to_csv(index=False) == "PhraseId,Sentiment\n6,2\n4,0\n5,4\n"


@pytest.mark.parametrize(
    ("row_ids", "wanted", "told"),
    [
        ([4, 5], [4, 5, 6], r"PhraseId 6: not predicted once, as in the sample submission \(1 ids\)"),
        ([4, 5, 6], [4, 5], "PhraseId 6: not predicted once"),
        ([4, 4], [4], "PhraseId 4: not predicted once"),
    ],
)
def test_other_ids_than_the_wanted_are_refused(row_ids: list[int], wanted: list[int], told: str) -> None:
    with pytest.raises(UnrollError, match=told):
        make(row_ids, [0] * len(row_ids), wanted)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("PhraseId,Sentiment\n6,2\n4,0\n", None),
        (
            "Sentiment,PhraseId\n2,6\n0,4\n",
            "line 1: found the columns Sentiment, PhraseId, expected PhraseId, Sentiment",
        ),
        ("PhraseId,Sentiment\n6,2\n", "found 1 rows, expected 2 as in the sample submission"),
        ("PhraseId,Sentiment\n4,2\n6,0\n", "line 2: PhraseId: found '4', expected the id of the sample submission"),
        ("PhraseId,Sentiment\n6,2\n4,\n", "line 3: Sentiment: found '', expected one of 0, 1, 2, 3, 4"),
        ("PhraseId,Sentiment\n6,2\n4,2\n", "all predictions are '2'; refusing a constant submission"),
    ],
)
def test_a_file_is_checked_before_it_is_sent(tmp_path: Path, content: str, told: str | None) -> None:
    file = tmp_path / "s.csv"
    file.write_text(content)
    if told is None:
        assert check_submission(TASK, file, pd.Series([6, 4])).tolist() == ["2", "0"]
        return
    with pytest.raises(UnrollError) as error:
        check_submission(TASK, file, pd.Series([6, 4]))
    assert told in str(error.value)


def test_labels_are_written_as_the_task_writes_them() -> None:
    names = load_task("surnames")
    table = make_submission(names, pd.Series([1]), np.array([14]), pd.Series([1]))
    assert table.to_csv(index=False) == "NameId,Language\n1,Russian\n"
