"""A competition's definition: its files and their columns, what is predicted, and the metric."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from unroll.core.errors import UnrollError
from unroll.core.params import explain_errors
from unroll.core.settings import Section

UNLABELLED = -1  # the class of a row without a label
Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[tuple[Text, ...], Field(min_length=1, strict=False)]


class Target(Section):
    """What is predicted: one class a row, written in the files as one of `labels`; `names` are for display."""

    columns: Annotated[tuple[Text, ...], Field(min_length=1, max_length=1, strict=False)]
    kind: Literal["classes"]
    labels: Annotated[tuple[Text, ...], Field(min_length=2, strict=False)]
    names: Texts | None = None

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"labels must differ, found {', '.join(self.labels)}")
        if self.names is not None and len(self.names) != len(self.labels):
            raise ValueError(f"expected {len(self.labels)} names, one for each label, found {len(self.names)}")
        return self


class Competition(Section):
    """A classification task over spans of text, as `competitions/<name>.yaml` defines it."""

    name: str  # the file's
    title: str
    competition: str | None = None  # its name on Kaggle; None for a local task
    folder: Text  # of its files below `data.dir`; by default Kaggle's name
    archive: Text | None = None  # address of a zip archive with the files, for a task that is not on Kaggle
    train: Text  # a table, or a pattern such as `names/*.txt`: one file a label with one text a line
    test: Text | None = None  # a table without labels; None to hold out a share of the training rows
    sample: Text | None = None  # the sample submission
    id: Text  # column of row ids; the submission's first column
    text: Annotated[tuple[Text, ...], Field(min_length=1, max_length=1, strict=False)]  # column of texts
    group: Text | None = None  # column whose rows must not cross folds; None keeps rows of equal text together
    group_name: Text = "group"  # what a group is called in reports
    target: Target
    metric: Literal["accuracy", "macro_f1"]

    @model_validator(mode="after")
    def _files_go_together(self) -> Self:
        if self.is_folder_of_labels:
            if self.test is not None or self.sample is not None:
                raise ValueError(f"train {self.train} is one file a label, which has no test and no sample")
        elif self.test is None or self.sample is None:
            raise ValueError("test and sample: missing; a training file needs both")
        return self

    @property
    def is_folder_of_labels(self) -> bool:
        """Return whether the raw files are one file a label, with one text a line."""
        return "*" in self.train

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the labels as they are in the files and in the submission, (C,)."""
        return self.target.labels

    @property
    def label_names(self) -> tuple[str, ...]:
        """Return the labels' names for display, (C,)."""
        return self.target.names or self.target.labels

    @property
    def label_column(self) -> str:
        """Return the column of labels, in the training file and in the submission."""
        return self.target.columns[0]


def load_competition(path: Path) -> Competition:
    """Read and check `<folder>/<task>.yaml`.

    Raises:
        UnrollError: there is no such file, or it has an unknown key or a value that is not allowed.
    """
    try:
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        names = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml"))) or "none"
        raise UnrollError(f"{path}: no such file, so there is no task {path.stem!r}; tasks are: {names}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UnrollError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UnrollError(f"{path}: expected keys such as `train:` and `target:`, found {type(values).__name__}")
    try:
        return Competition.model_validate({"folder": values.get("competition"), **values, "name": path.stem})
    except ValidationError as error:
        raise UnrollError(explain_errors(error.errors(), str(path))) from None
