"""What a task is: one frozen record a task, one small file a record, loaded by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

from unroll.errors import UnrollError

UNLABELLED = -1  # the number of a label that is not there


@dataclass(frozen=True)
class TableFiles:
    """Delimited files with a header: a training file, a test file without labels, and a sample submission.

    The files may also be served zipped, one file an archive, as `<name>.zip`.
    """

    train: str
    test: str
    sample_submission: str
    separator: str
    row_id: str
    group: str
    text: str
    label: str


@dataclass(frozen=True)
class LabelledFolder:
    """A folder with one file a label, `<label><suffix>`, and one text a line. There is no test file."""

    folder: str
    suffix: str


@dataclass(frozen=True)
class Remote:
    """Where the raw files are served: a Kaggle competition, or an archive at a URL with so many lines a label."""

    competition: str | None = None
    archive_url: str | None = None
    rows: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Task:
    """A classification task over spans of text.

    `labels` are written as they stand in the files and in the submission; `label_names` are for people, and
    `group_word` says what a group of rows is. `folder` is the task's folder below `data.dir`; `id_column` and
    `label_column` head the submission.
    """

    name: str
    title: str
    folder: str
    files: TableFiles | LabelledFolder
    remote: Remote
    labels: tuple[str, ...]
    label_names: tuple[str, ...]
    group_word: str
    metric: Literal["accuracy", "macro_f1"]
    id_column: str
    label_column: str


def load_task(name: str) -> Task:
    """Load `unroll.tasks.<name>.TASK`.

    Raises:
        UnrollError: there is no such task.
    """
    try:
        task: Task = import_module(f"unroll.tasks.{name}").TASK
    except (ModuleNotFoundError, AttributeError):
        raise UnrollError(f"task {name!r}: no file src/unroll/tasks/{name}.py defines it as TASK") from None
    return task
