"""params.yaml as frozen, strict models: one section for each function that needs it.

There are no default values here. Every value stands in params.yaml, where DVC sees it change; this module only says
what is allowed. That is why a change of this file alone retrains nothing.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

CellName = Literal["RNN", "LSTM", "GRU"]
SourceName = Literal["local", "kaggle"]
Pooling = Literal["first", "last", "mean", "max"]
Share = Annotated[float, Field(ge=0, lt=1)]
DropoutRate = Annotated[float, Field(ge=0, le=0.95)]
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """A section of params.yaml: unknown keys and wrong types are refused, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DataConfig(Section):
    """Where raw files come from."""

    source: SourceName
    dir: Annotated[str, Field(min_length=1)]
    mirrors: dict[str, Annotated[str, Field(pattern=r"^(https?://\S+|[\w.-]+/[\w.-]+)$")]]


class SplitConfig(Section):
    """Folds of the training part, and the share of rows held out where the task has no test file."""

    folds: Annotated[int, Field(ge=2)]
    run_folds: Annotated[tuple[Count, ...], Field(min_length=1, strict=False)]
    test_share: Annotated[float, Field(ge=0, le=0.5)]

    @model_validator(mode="after")
    def _folds_exist(self) -> Self:
        if len(set(self.run_folds)) < len(self.run_folds) or max(self.run_folds) >= self.folds:
            raise ValueError(f"run_folds must be different numbers from 0 to {self.folds - 1}, found {self.run_folds}")
        if 0 < self.test_share < 0.01:
            raise ValueError(f"test_share must be 0 or between 0.01 and 0.5, found {self.test_share}")
        return self


class TextConfig(Section):
    """How a text becomes tokens, and which tokens are known."""

    tokenizer: Literal["whitespace", "basic_english", "characters"]
    lower: bool
    context: Literal["phrase", "sentence"]
    min_count: Positive
    max_size: Positive | None
    vectors: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)]

    @model_validator(mode="after")
    def _settings_go_together(self) -> Self:
        if self.tokenizer == "characters" and self.context == "sentence":
            raise ValueError("tokenizer characters needs context phrase: a word's letters stand inside other words")
        if self.tokenizer == "basic_english" and not self.lower:
            raise ValueError("tokenizer basic_english reads in lower case; set lower: true")
        return self


class ModelConfig(Section):
    """The shape of a SpanClassifier.

    `embedding: null` feeds one-hot vectors; `head: none` has no layer after the pooling, `mlp` has two, with
    `head_hidden` units between them.
    """

    embedding: Positive | None
    hidden: Positive
    layers: Positive
    bidirectional: bool
    pooling: Annotated[tuple[Pooling, ...], Field(min_length=1, strict=False)]
    head: Literal["linear", "mlp", "none"]
    head_hidden: Positive | None
    embedding_dropout: DropoutRate
    layer_dropout: DropoutRate
    head_dropout: DropoutRate

    @model_validator(mode="after")
    def _head_has_its_size(self) -> Self:
        if (self.head == "mlp") != (self.head_hidden is not None):
            raise ValueError(f"head_hidden is a number with head mlp and null else, found {self.head_hidden}")
        return self

    @model_validator(mode="after")
    def _poolings_differ(self) -> Self:
        if len(set(self.pooling)) < len(self.pooling):
            raise ValueError(f"each pooling stands once, found {self.pooling}")
        return self


class TrainConfig(Section):
    """The recipe of a training."""

    epochs: Positive
    min_steps: Positive
    batch_size: Positive
    optimizer: Literal["adam", "adamw"]
    lr: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    schedule: Literal["constant", "one_cycle"]
    warmup: Share
    clip_norm: Annotated[float, Field(gt=0)] | None
    label_smoothing: Share
    language_model: Annotated[float, Field(ge=0)]
    word_dropout: Share
    rare_word_dropout: Annotated[float, Field(ge=0)]
    ema: Share
    patience: Positive | None
    precision: Literal["auto", "fp32", "bf16"]


class EnsembleConfig(Section):
    """How the cells' probabilities become one answer."""

    known_labels: bool
    calibrate: bool


class Numbers(Section):
    """A range of numbers, both ends included; of whole ones where both ends are whole."""

    low: Annotated[int | float, Field(union_mode="left_to_right")]
    high: Annotated[int | float, Field(union_mode="left_to_right")]
    log: bool

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low >= self.high or (self.log and self.low <= 0):
            above = ", above 0 with log" if self.log else ""
            raise ValueError(f"low has to be smaller than high{above}, found {self.low} and {self.high}")
        return self


class Choices(Section):
    """Values to choose among."""

    choices: Annotated[tuple[int | float | str | bool | None, ...], Field(min_length=2, strict=False)]


def _kind_of_space(values: Any) -> str:
    has_choices = isinstance(values, Choices) or (isinstance(values, dict) and "choices" in values)
    return "a choice" if has_choices else "a range"


SPACES: dict[str, type[Section]] = {"a range": Numbers, "a choice": Choices}
Space = Annotated[
    Annotated[Numbers, Tag("a range")] | Annotated[Choices, Tag("a choice")], Discriminator(_kind_of_space)
]


class TuneConfig(Section):
    """What `unroll tune` searches, on which cell and fold, and when it gives a trial up.

    After `grace` epochs, and again each time that their number has grown `keep` times, the best of `keep` trials go on
    (successive halving: Li et al., 2020, "A system for massively parallel hyperparameter tuning").
    """

    cell: CellName
    fold: Count
    grace: Positive
    keep: Annotated[int, Field(ge=2)]
    space: Annotated[dict[str, Space], Field(min_length=1)]


class TaskConfig(Section):
    """One task's sections."""

    split: SplitConfig
    text: TextConfig
    model: ModelConfig
    train: TrainConfig
    ensemble: EnsembleConfig
    tune: TuneConfig

    @model_validator(mode="after")
    def _a_language_model_cannot_see_ahead(self) -> Self:
        model, weight = self.model, self.train.language_model
        if weight and (model.embedding is None or (model.layers > 1 and model.bidirectional)):
            raise ValueError(
                "train.language_model needs a model.embedding, and model.layers: 1 or bidirectional: false, since the "
                f"layers above the first have read both ways; found embedding {model.embedding}, layers {model.layers}"
            )
        return self

    @model_validator(mode="after")
    def _space_is_of_settings(self) -> Self:
        if self.tune.fold >= self.split.folds:
            raise ValueError(f"tune.fold must be a number from 0 to {self.split.folds - 1}, found {self.tune.fold}")
        for path, where in self.tune.space.items():
            section, _, key = path.partition(".")
            settings = {"model": self.model, "train": self.train}.get(section)
            if settings is None or key not in type(settings).model_fields:
                raise ValueError(f"tune.space.{path}: no such setting; a key is model.<name> or train.<name>")
            ends = where.choices if isinstance(where, Choices) else (where.low, where.high)
            for value in ends:
                try:
                    type(settings).model_validate({**settings.model_dump(), key: value})
                except ValidationError as error:
                    raise ValueError(f"tune.space.{path}: found {value!r}; {error.errors()[0]['msg']}") from None
        return self


class LessonConfig(Section):
    """One of the course's lessons on "hihell"."""

    epochs: Positive
    lr: Annotated[float, Field(gt=0)]


class EmbeddingLessonConfig(LessonConfig):
    """The lesson that embeds the letters first."""

    embedding: Positive


class HelloConfig(Section):
    """The course's lessons: how long each cell learns to say "ihello"."""

    seed: Seed
    step_by_step: LessonConfig
    unfolded: LessonConfig
    embedding: EmbeddingLessonConfig


class Config(Section):
    """All of params.yaml. Each name under `tasks` has its own section of that name, kept in `task`."""

    seed: Seed
    profile: Annotated[str, Field(min_length=1)]
    data: DataConfig
    tasks: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    cells: Annotated[tuple[CellName, ...], Field(min_length=1, strict=False)]
    hello: HelloConfig
    task: dict[str, TaskConfig]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        for key, names in (("tasks", self.tasks), ("cells", self.cells)):
            if len(set(names)) < len(names):
                raise ValueError(f"each of {key} stands once, found {', '.join(names)}")
        return self
