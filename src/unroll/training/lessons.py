"""The course's lessons: "hihell" learns to say "ihello", in three ways, for each cell.

Each lesson yields the string that the model says after every epoch, so that one sees it come out of noise. A room of
its own, since a stage only reads and writes and these train.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from unroll.core.settings import HelloConfig, LessonConfig, ModelConfig, TrainConfig
from unroll.models.cells import STEPS, first_state, read_weights
from unroll.models.inference import predict
from unroll.models.span_classifier import CELLS, SpanClassifier
from unroll.text.corpus import Corpus
from unroll.training.fit import fit
from unroll.training.hihell import LETTERS, TARGET, TEXT
from unroll.training.history import EpochRecord
from unroll.training.optimization import make_optimizer


@dataclass(frozen=True)
class Said:
    """What a model says after an epoch: the loss it trained on and its string."""

    lesson: str
    cell: str
    epoch: int
    loss: float
    text: str


def teach_step_by_step(cell: str, config: HelloConfig) -> list[Said]:
    """Lesson one: one-hot letters, one step at a time through the equations of cells.py, the loss summed over steps.

    The hidden state itself is read as the logits, so its size is the number of letters.
    """
    torch.manual_seed(config.seed)
    layer = CELLS[cell](len(LETTERS), len(LETTERS), batch_first=True)
    optimizer = make_optimizer(layer, _recipe(config.step_by_step))
    inputs = functional.one_hot(torch.tensor(_numbers(TEXT)), len(LETTERS)).float()  # (T, E)
    targets = torch.tensor(_numbers(TARGET))  # (T,)
    said = []
    for epoch in range(1, config.step_by_step.epochs + 1):
        optimizer.zero_grad()
        state = first_state(cell, 1, inputs, len(LETTERS))
        loss = torch.zeros(())
        letters = []
        for x, target in zip(inputs, targets, strict=True):
            state, _ = STEPS[cell](x[None], state, read_weights(layer))  # x (1, E), state[0] (1, H)
            loss = loss + functional.cross_entropy(state[0], target[None])
            letters.append(int(state[0].argmax()))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        said.append(Said("step_by_step", cell, epoch, loss.item(), _spell(letters)))
    return said


def teach_unfolded(cell: str, config: HelloConfig) -> list[Said]:
    """Lesson two: the same as one call on the whole sequence, unfolded; the loss is the mean over steps."""
    model = ModelConfig(embedding=None, hidden=len(LETTERS), head="none", head_hidden=None, **_PLAIN)
    return _teach("unfolded", cell, model, config, config.unfolded)


def teach_embedding(cell: str, config: HelloConfig) -> list[Said]:
    """Lesson three: letters are embedded first, and a linear layer reads the hidden state."""
    model = ModelConfig(
        embedding=config.embedding.embedding, hidden=len(LETTERS), head="linear", head_hidden=None, **_PLAIN
    )
    return _teach("embedding", cell, model, config, config.embedding)


def teach_all(cell: str, config: HelloConfig) -> Iterator[Said]:
    """Give a cell the three lessons, one after the other."""
    for teach in (teach_step_by_step, teach_unfolded, teach_embedding):
        yield from teach(cell, config)


_PLAIN: dict[str, Any] = {
    "layers": 1,
    "bidirectional": False,
    "pooling": ("last",),
    "embedding_dropout": 0.0,
    "layer_dropout": 0.0,
    "head_dropout": 0.0,
}


def _teach(lesson: str, cell: str, model_config: ModelConfig, hello: HelloConfig, config: LessonConfig) -> list[Said]:
    torch.manual_seed(hello.seed)
    corpus = make_hello_corpus()
    model = SpanClassifier(cell, model_config, tokens=len(LETTERS), classes=len(LETTERS))
    sequence = np.array([0])
    said: list[Said] = []

    def listen(record: EpochRecord, spans_per_second: float | None) -> None:
        letters = predict(model, corpus, sequence).argmax(1).tolist()
        said.append(Said(lesson, cell, record.epoch, record.loss, _spell(letters)))

    fit(model, corpus, sequence, sequence, _recipe(config), seed=hello.seed, on_epoch=listen, quiet=True)
    return said


def make_hello_corpus() -> Corpus:
    """Return one sequence, the letters of "hihell", with each single step as a span labelled by the next letter."""
    steps = np.arange(len(TEXT))
    return Corpus(
        tokens=np.array(_numbers(TEXT), dtype=np.int32),
        offsets=np.array([0, len(TEXT)]),
        folds=np.array([0]),
        span_offsets=np.array([0, len(TEXT)]),
        starts=steps,
        ends=steps + 1,
        labels=np.array(_numbers(TARGET)),
        row_ids=steps,
    )


def _recipe(config: LessonConfig) -> TrainConfig:
    return TrainConfig(
        epochs=config.epochs, min_steps=1, lr=config.lr, batch_size=1, optimizer="adam", weight_decay=0.0,
        schedule="constant", warmup=0.0, clip_norm=None, label_smoothing=0.0, language_model=0.0, word_dropout=0.0,
        rare_word_dropout=0.0, ema=0.0, patience=None, precision="fp32",
    )  # fmt: skip


def _numbers(text: str) -> list[int]:
    return [LETTERS.index(letter) for letter in text]


def _spell(letters: list[int]) -> str:
    return "".join(LETTERS[letter] for letter in letters)
