"""params.yaml as frozen, strict pydantic models.

There are no default values here: every value is in params.yaml, where DVC sees it change. That is why a change of this
file alone retrains nothing.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

CellName = Literal["RNN", "LSTM", "GRU"]
TokenizerName = Literal["whitespace", "basic_english", "characters", "treebank"]
SourceName = Literal["local", "kaggle"]
Pooling = Literal["first", "last", "mean", "max"]
Share = Annotated[float, Field(ge=0, lt=1)]
DropoutRate = Annotated[float, Field(ge=0, le=0.95)]
Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _check_distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    for number, value in enumerate(values):
        if value in values[:number]:
            raise ValueError(f"duplicate value {value!r}")
    return values


Distinct = AfterValidator(_check_distinct)
NonEmpty = Field(min_length=1, strict=False)


class Section(BaseModel):
    """A section of params.yaml: unknown keys and wrong types are errors, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, values: Any) -> Any:
        for key in values if isinstance(values, dict) else ():
            if key not in cls.model_fields:
                known = ", ".join(name for name in cls.model_fields if name not in ("task", "name"))
                raise ValueError(f"{key}: unknown key; known keys here: {known}")
        return values


class DataConfig(Section):
    """Where raw files are from."""

    source: SourceName
    dir: Annotated[str, Field(min_length=1)]
    mirrors: dict[str, Annotated[str, Field(pattern=r"^(https?://\S+|[\w.-]+/[\w.-]+)$")]]


class SplitConfig(Section):
    """Folds of the training part, models of all its rows, and the share held out if the task has no test file."""

    folds: Annotated[int, Field(ge=2)]
    run_folds: Annotated[tuple[Count, ...], NonEmpty, Distinct]
    refit: Count
    test_share: Annotated[float, Field(ge=0, le=0.5)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if max(self.run_folds) >= self.folds:
            raise ValueError(f"run_folds: found {max(self.run_folds)}, expected numbers from 0 to {self.folds - 1}")
        if 0 < self.test_share < 0.01:
            raise ValueError(f"test_share: found {self.test_share}, expected 0 or a number from 0.01 to 0.5")
        return self


class TextConfig(Section):
    """How a text becomes tokens, and which tokens are in the vocabulary."""

    tokenizer: TokenizerName
    lower: bool
    context: Literal["phrase", "sentence"]
    min_count: Positive
    max_size: Positive | None
    max_tokens: Positive | None
    truncate: Literal["head", "tail", "both"]
    vectors: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.tokenizer == "characters" and self.context == "sentence":
            raise ValueError("found tokenizer characters with context sentence; set context: phrase")
        if self.tokenizer == "basic_english" and not self.lower:
            raise ValueError("found tokenizer basic_english, which lower-cases, with lower: false; set lower: true")
        return self


class CorpusConfig(Section):
    """Texts to learn from: `source` is a path, an address or "rows"; `checksum` is of a download, as pooch has it."""

    source: Annotated[str, Field(min_length=1)]
    checksum: str | None = None
    text: str | None = None
    label: str | None = None


class PretrainConfig(Section):
    """How a task's models are trained on a corpus before they are trained on its rows."""

    corpus: str | None
    cells: Annotated[tuple[CellName, ...], NonEmpty, Distinct]
    tokenizer: TokenizerName | None
    min_count: Positive
    max_size: Positive | None
    chunk: Annotated[int, Field(ge=2)]
    passes: Positive
    min_steps: Positive
    batch_size: Positive
    lr: Rate
    dropout: DropoutRate


class ModelConfig(Section):
    """The shape of a SpanClassifier.

    `embedding: null` uses one-hot vectors; `head: none` has no layer after the pooling, `mlp` has two, with
    `head_hidden` units between them.
    """

    embedding: Positive | None
    hidden: Positive
    layers: Positive
    bidirectional: bool
    pooling: Annotated[tuple[Pooling, ...], NonEmpty, Distinct]
    head: Literal["linear", "mlp", "none"]
    head_hidden: Positive | None
    embedding_dropout: DropoutRate
    layer_dropout: DropoutRate
    head_dropout: DropoutRate

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.head == "mlp") != (self.head_hidden is not None):
            expected = "a number" if self.head == "mlp" else "null"
            raise ValueError(f"head_hidden: found {self.head_hidden}, expected {expected} with head {self.head}")
        return self

    def check_language_model(self, wanted_by: str) -> None:
        """Raise a ValueError if a language model could not be learned, or would see the word that it predicts."""
        if self.embedding is None or (self.layers > 1 and self.bidirectional):
            raise ValueError(
                f"{wanted_by}: needs a model.embedding, and model.layers: 1 or bidirectional: false, since "
                f"later layers have seen both directions; found embedding {self.embedding}, layers {self.layers}"
            )


class TrainConfig(Section):
    """How a model is trained."""

    epochs: Positive
    min_steps: Positive
    batch_size: Positive
    batch_tokens: Positive
    optimizer: Literal["adam", "adamw"]
    lr: Rate
    encoder_lr: Annotated[float, Field(gt=0, le=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    schedule: Literal["constant", "one_cycle"]
    warmup: Share
    clip_norm: Rate | None
    label_smoothing: Share
    language_model: Annotated[float, Field(ge=0)]
    word_dropout: Share
    rare_word_dropout: Annotated[float, Field(ge=0)]
    ema: Share
    patience: Positive | None
    precision: Literal["auto", "fp32", "bf16"]


class EnsembleConfig(Section):
    """How the cells' probabilities become one prediction."""

    known_labels: bool
    calibrate: bool


class Space(Section):
    """Values to search: `choices`, or a range from `low` to `high`, of integers if both ends are integers."""

    choices: Annotated[tuple[int | float | str | bool | None, ...], Field(min_length=1, strict=False)] | None = None
    low: Any = None
    high: Any = None
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        ends = (self.low, self.high)
        is_range = all(isinstance(end, int | float) for end in ends) and self.low < self.high
        if (ends == (None, None)) != (self.choices is not None) or (self.choices is None and not is_range):
            raise ValueError(f"found low {self.low} and high {self.high}, expected either choices, or low < high")
        if self.log and (self.choices is not None or self.low <= 0):
            raise ValueError(f"log: found true with {self.choices or self.low}, expected a range with low above 0")
        return self


class TuneConfig(Section):
    """What `unroll tune` searches, on which cell and fold, and when it stops a trial early.

    After `grace_period` epochs, and each time their number has grown by `reduction_factor`, one in `reduction_factor`
    trials continues (ASHA: Li et al., 2020, "A system for massively parallel hyperparameter tuning").
    """

    cell: CellName
    fold: Count
    grace_period: Positive
    reduction_factor: Annotated[int, Field(ge=2)]
    space: Annotated[dict[str, Space], Field(min_length=1)]


class TaskConfig(Section):
    """One task's sections."""

    split: SplitConfig
    text: TextConfig
    model: ModelConfig
    pretrain: PretrainConfig
    train: TrainConfig
    ensemble: EnsembleConfig
    tune: TuneConfig

    @model_validator(mode="after")
    def _check_language_model(self) -> Self:
        if self.train.language_model:
            self.model.check_language_model("train.language_model")
        return self

    @model_validator(mode="after")
    def _check_tune(self) -> Self:
        if self.tune.fold >= self.split.folds:
            raise ValueError(f"tune.fold: found {self.tune.fold}, expected a number from 0 to {self.split.folds - 1}")
        for path, space in self.tune.space.items():
            section, _, key = path.partition(".")
            settings = {"model": self.model, "train": self.train}.get(section)
            if settings is None or key not in type(settings).model_fields:
                raise ValueError(f"tune.space.{path}: no such setting; expected model.<name> or train.<name>")
            for value in space.choices or (space.low, space.high):
                try:
                    type(settings).model_validate({**settings.model_dump(), key: value})
                except ValidationError as error:
                    raise ValueError(f"tune.space.{path}: found {value!r}; {error.errors()[0]['msg']}") from None
        return self


class LessonConfig(Section):
    """One of the course's lessons on "hihell"."""

    epochs: Positive
    lr: Rate


class EmbeddingLessonConfig(LessonConfig):
    """The lesson with an embedding of the letters."""

    embedding: Positive


class HelloConfig(Section):
    """The course's lessons: how long each cell is trained to output "ihello"."""

    seed: Seed
    step_by_step: LessonConfig
    unfolded: LessonConfig
    embedding: EmbeddingLessonConfig


class Config(Section):
    """All of params.yaml. `task` has the settings of each task: the defaults, and what its own section changes."""

    seed: Seed
    profile: Annotated[str, Field(min_length=1)]
    data: DataConfig
    tasks: Annotated[tuple[str, ...], NonEmpty, Distinct]
    cells: Annotated[tuple[CellName, ...], NonEmpty, Distinct]
    corpora: dict[str, CorpusConfig]
    pretrained: Annotated[tuple[str, ...], Field(strict=False), Distinct]
    hello: HelloConfig
    defaults: TaskConfig
    task: dict[str, TaskConfig]

    @model_validator(mode="after")
    def _check_pretrained(self) -> Self:
        for name in self.pretrained if self.task else ():
            if name not in self.tasks:
                raise ValueError(f"pretrained: found {name}, expected some of tasks: {', '.join(self.tasks)}")
            pretrain, model = self.task[name].pretrain, self.task[name].model
            if pretrain.corpus not in self.corpora:
                known = ", ".join(self.corpora) or "none yet"
                raise ValueError(f"{name}.pretrain.corpus: found {pretrain.corpus}, expected one of corpora: {known}")
            if not set(pretrain.cells) & set(self.cells):
                expected = f"some of cells: {', '.join(self.cells)}"
                raise ValueError(f"{name}.pretrain.cells: found {', '.join(pretrain.cells)}, expected {expected}")
            model.check_language_model(f"{name}.pretrain")
        return self
