"""A competition's definition: its files and columns, what is predicted, the metric and the form of the submission."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from unroll.core.errors import UnrollError
from unroll.core.params import explain_errors, read_yaml
from unroll.core.settings import Section
from unroll.data.tables import CsvOptions

Kind = Literal["classes", "multilabel", "ordinal", "number"]
Form = Literal["label", "probabilities", "positive", "value"]
Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[tuple[Text, ...], Field(min_length=1, strict=False)]
# A label that YAML reads as a number is the text that the file has.
Label = Annotated[Text, BeforeValidator(lambda value: str(value) if type(value) in (int, float) else value)]

CLASSES: tuple[Kind, ...] = ("classes", "ordinal")
METRICS: dict[str, tuple[Kind, ...]] = {  # the kinds of target that each is for; unroll.evaluation.metrics has them
    "accuracy": CLASSES, "macro_f1": (*CLASSES, "multilabel"), "micro_f1": (*CLASSES, "multilabel"), "f1": ("classes",),
    "mcc": CLASSES, "quadratic_kappa": CLASSES, "log_loss": (*CLASSES, "multilabel"), "auc": ("classes", "multilabel"),
    "rmse": ("number", "ordinal"), "mae": ("number", "ordinal"), "mcrmse": ("number",),
    "pearson": ("number", "ordinal"), "spearman": ("number", "ordinal"),
}  # fmt: skip
OF_PREDICTIONS = ("log_loss", "auc", "rmse", "mae", "mcrmse", "pearson", "spearman")  # the others are of decided labels


class Target(Section):
    """What is predicted.

    `classes` is one of several labels, `ordinal` one of several labels in ascending order, both in one column;
    `multilabel` is 0 or 1 in each column, `number` a number in each column. Labels are as in the file, `names` for
    display; without labels they are found in the training file.
    """

    columns: Texts
    kind: Kind
    labels: Annotated[tuple[Label, ...], Field(min_length=2, strict=False)] | None = None
    names: Texts | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind in CLASSES and len(self.columns) > 1:
            raise ValueError(f"columns: found {len(self.columns)}, expected one with kind {self.kind}")
        if self.kind not in CLASSES and self.labels is not None:
            raise ValueError(f"labels: found {len(self.labels)}, expected none with kind {self.kind}")
        if self.labels is not None and len(set(self.labels)) < len(self.labels):
            raise ValueError(f"labels must differ, found {', '.join(self.labels)}")
        if self.names is not None and self.labels is not None and len(self.names) != len(self.labels):
            raise ValueError(f"expected {len(self.labels)} names, one for each label, found {len(self.names)}")
        return self


class Join(Section):
    """A table whose columns are added to each row, found by the value of a column that both have."""

    file: Text
    on: Text
    columns: Texts


class SubmissionColumns(Section):
    """Which output each column of predictions holds."""

    columns: Annotated[dict[Text, Label], Field(min_length=1)]


class Competition(Section):
    """A task over texts, as `competitions/<name>.yaml` defines it; docs/competitions.md explains every key.

    A table of predictions has P outputs: the probability of each of C classes, of each label of a multilabel target, or
    the number of each column. The truth has K columns: the number of the class, or a number for each target column.
    """

    name: str  # the file's
    title: Text
    competition: Text | None = None
    folder: Text
    archive: Text | None = None
    train: Text
    test: Text | None = None
    sample: Text | None = None
    csv: CsvOptions = CsvOptions()
    join: Join | None = None
    id: Text | None = None
    text: Texts
    group: Text | None = None
    group_name: Text = "group"
    target: Target
    metric: Text
    positive: Label | None = None
    submission: Form | SubmissionColumns | None = None
    upload: bool = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        kind, labels = self.target.kind, self.target.labels
        if self.metric not in METRICS or kind not in METRICS[self.metric]:
            fitting = ", ".join(name for name, kinds in METRICS.items() if kind in kinds)
            raise ValueError(f"metric: found {self.metric!r}, expected one of {fitting} (target.kind: {kind})")
        if self.metric == "f1" and labels is not None and len(labels) != 2:
            raise ValueError(f"metric: found f1 with {len(labels)} labels, expected macro_f1 or micro_f1")
        if self.positive is not None and (kind != "classes" or (labels is not None and self.positive not in labels)):
            raise ValueError(f"positive: found {self.positive!r}, expected one of target.labels, with kind classes")
        if self.is_folder_of_labels and (self.test is not None or self.sample is not None or labels is None):
            raise ValueError(f"train {self.train} is one file a label: it needs target.labels, and no test or sample")
        if isinstance(self.submission, SubmissionColumns) and self.outputs:
            for column, output in self.submission.columns.items():
                if output not in self.outputs:
                    expected = ", ".join(self.outputs[:20])
                    raise ValueError(f"submission.columns.{column}: found {output!r}, expected one of {expected}")
        if self.sample is not None and self.test is None:
            raise ValueError("test: missing; a sample submission needs a test file")
        return self

    @property
    def is_folder_of_labels(self) -> bool:
        """Return whether the raw files are one file a label, with one text a line."""
        return "*" in self.train

    @property
    def has_ids(self) -> bool:
        """Return whether a row keeps its id when rows are added to the files."""
        return self.id is not None and not self.is_folder_of_labels

    @property
    def kind(self) -> Kind:
        """Return the kind of target."""
        return self.target.kind

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the name of each of the P outputs: a label as in the files, or a target column."""
        return self.target.columns if self.target.kind not in CLASSES else self.target.labels or ()

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return the outputs' names for display, (P,)."""
        return self.target.names or self.outputs

    @property
    def positive_class(self) -> int:
        """Return the number of the positive one of the labels."""
        return self.outputs.index(self.positive) if self.positive is not None else len(self.outputs) - 1

    @cached_property
    def levels(self) -> npt.NDArray[np.float64]:
        """Return the number that each label of an ordinal target stands for, (C,): itself, or its place from 0 on."""
        try:
            return np.array(self.outputs, dtype=np.float64)
        except ValueError:
            return np.arange(len(self.outputs), dtype=np.float64)

    @property
    def form(self) -> Form | SubmissionColumns:
        """Return the form of the submission; by default what the metric scores."""
        if self.submission is not None:
            return self.submission
        if self.kind == "number" or (self.kind == "ordinal" and self.metric in OF_PREDICTIONS[2:]):
            return "value"
        if self.metric not in OF_PREDICTIONS:
            return "label"
        return "positive" if self.kind == "classes" and self.metric == "auc" else "probabilities"

    def with_labels(self, labels: tuple[str, ...]) -> "Competition":
        """Return the definition with the labels that the training file has.

        Raises:
            UnrollError: they break a rule, as three labels do with the metric f1.
        """
        target = {**self.target.model_dump(), "labels": labels}
        return parse_competition(
            {**self.model_dump(exclude_unset=True), "target": target}, Path("competitions", f"{self.name}.yaml")
        )


def load_competition(path: Path) -> Competition:
    """Read and check `<folder>/<task>.yaml`.

    Raises:
        UnrollError: there is no such file, or it has an unknown key or a value that is not allowed.
    """
    try:
        return parse_competition(read_yaml(path, "keys such as `train:` and `target:`"), path)
    except FileNotFoundError:
        names = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml"))) or "none"
        raise UnrollError(f"{path}: no such file, so there is no task {path.stem!r}; tasks are: {names}") from None


def parse_competition(values: dict[str, Any], path: Path) -> Competition:
    """Check the mapping that a definition's file holds.

    Raises:
        UnrollError: it has an unknown key or a value that is not allowed.
    """
    defaults = {"title": path.stem, "folder": values.get("competition") or path.stem}
    try:
        return Competition.model_validate({**defaults, **values, "name": path.stem})
    except ValidationError as error:
        raise UnrollError(explain_errors(error.errors(), str(path))) from None
