import numpy as np
import pandas as pd
import pytest

from tests.support.definitions import load_task
from unroll.core.errors import UnrollError
from unroll.data.submission import make_submission

TASK = load_task("sentiment")


def make(row_ids: list[int], classes: list[int], wanted: list[int]) -> pd.DataFrame:
    return make_submission(TASK, pd.Series(row_ids), np.array(classes), pd.Series(wanted))


def test_a_submission_has_the_wanted_ids_in_the_wanted_order() -> None:
    assert make([4, 5, 6], [0, 4, 2], [6, 4, 5]).to_csv(index=False) == "PhraseId,Sentiment\n6,2\n4,0\n5,4\n"


@pytest.mark.parametrize(
    ("row_ids", "classes", "wanted", "told"),
    [
        ([4, 5], [0, 1], [4, 5, 6], r"PhraseId 6: has no prediction \(1 such ids of 3\)"),
        ([4, 5, 6], [0, 1, 2], [4, 5], r"PhraseId 6: predicted, but not in the sample submission"),
        ([4, 4], [0, 1], [4], r"PhraseId 4: predicted more than once"),
        ([4], [5], [4], r"Sentiment: a prediction is none of the task's 5 labels"),
        ([4], [-1], [4], r"Sentiment: a prediction is none of the task's 5 labels"),
    ],
)
def test_a_submission_that_kaggle_would_refuse_is_refused_here(
    row_ids: list[int], classes: list[int], wanted: list[int], told: str
) -> None:
    with pytest.raises(UnrollError, match=told):
        make(row_ids, classes, wanted)


def test_labels_are_written_as_the_task_writes_them() -> None:
    names = load_task("surnames")
    table = make_submission(names, pd.Series([1]), np.array([14]), pd.Series([1]))
    assert table.to_csv(index=False) == "NameId,Language\n1,Russian\n"
