"""The course's three lessons: a cell learns to predict the next letter of "hihello".

Each lesson returns the prediction for "hihell" after every epoch, so that one sees it come out of noise.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from unroll.core.settings import HelloConfig, LessonConfig, ModelConfig, TrainConfig
from unroll.data.competition import Competition, Target
from unroll.models.cells import STEPS, first_state, read_weights
from unroll.models.inference import predict
from unroll.models.span_classifier import CELLS, SpanClassifier
from unroll.text.corpus import Corpus
from unroll.training.fit import fit
from unroll.training.optimization import make_optimizer
from unroll.training.state import EpochRecord

TEXT = "hihell"
TARGET = "ihello"
LETTERS = ("h", "i", "e", "l", "o")
TASK = Competition(
    name="hello", title=TEXT, folder="hello", train=TEXT, text=(TEXT,), metric="accuracy",
    target=Target(columns=(TARGET,), kind="classes", labels=LETTERS),
)  # fmt: skip


@dataclass(frozen=True)
class LessonEpoch:
    """A cell's loss in an epoch of a lesson, and its prediction after it."""

    cell: str
    lesson: str
    epoch: int
    loss: float
    text: str


def teach_all(cell: str, config: HelloConfig) -> Iterator[list[LessonEpoch]]:
    """Give a cell the three lessons, and yield the epochs of each."""
    yield teach_step_by_step(cell, config)
    # The hidden state is read as the logits again; the loss is now the mean over steps.
    model = ModelConfig(embedding=None, hidden=len(LETTERS), head="none", **PLAIN)
    yield teach_sequence(cell, "unfolded", model, config.unfolded, config.seed)
    model = ModelConfig(embedding=config.embedding.embedding, hidden=len(LETTERS), head="linear", **PLAIN)
    yield teach_sequence(cell, "embedding", model, config.embedding, config.seed)


PLAIN: dict[str, Any] = {
    "layers": 1, "bidirectional": False, "pooling": ("last",), "head_hidden": None, "embedding_dropout": 0.0,
    "layer_dropout": 0.0, "head_dropout": 0.0,
}  # fmt: skip


def teach_step_by_step(cell: str, config: HelloConfig) -> list[LessonEpoch]:
    """Feed one-hot letters through the equations of cells.py, one step at a time, and sum the loss over the steps.

    The hidden state itself is read as the logits, so its size is the number of letters.
    """
    torch.manual_seed(config.seed)
    layer = CELLS[cell](len(LETTERS), len(LETTERS), batch_first=True)
    optimizer = make_optimizer(layer, _recipe(config.step_by_step))
    inputs = functional.one_hot(torch.tensor(_numbers(TEXT)), len(LETTERS)).float()  # (T, E)
    targets = torch.tensor(_numbers(TARGET))  # (T,)
    epochs = []
    for epoch in range(1, config.step_by_step.epochs + 1):
        optimizer.zero_grad()
        state = first_state(cell, 1, inputs, len(LETTERS))
        loss, letters = torch.zeros(()), []
        for x, target in zip(inputs, targets, strict=True):
            state, _ = STEPS[cell](x[None], state, read_weights(layer))  # x (1, E), state[0] (1, H)
            loss = loss + functional.cross_entropy(state[0], target[None])
            letters.append(int(state[0].argmax()))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        epochs.append(LessonEpoch(cell, "step_by_step", epoch, loss.item(), _spell(letters)))
    return epochs


def teach_sequence(cell: str, lesson: str, shape: ModelConfig, config: LessonConfig, seed: int) -> list[LessonEpoch]:
    """Train the project's own model on the whole sequence at once, each step a span."""
    torch.manual_seed(seed)
    corpus, sequence = make_hello_corpus(), np.array([0])
    model = SpanClassifier(cell, shape, tokens=len(LETTERS), outputs=len(LETTERS))
    epochs: list[LessonEpoch] = []

    def on_epoch(record: EpochRecord, spans_per_second: float | None) -> None:
        letters = predict(model, corpus, sequence).argmax(1).tolist()
        epochs.append(LessonEpoch(cell, lesson, record.epoch, record.loss, _spell(letters)))

    fit(model, corpus, sequence, sequence, _recipe(config), TASK, seed=seed, on_epoch=on_epoch, quiet=True)
    return epochs


def make_hello_corpus() -> Corpus:
    """Return one sequence, "hihell", of which each step is a span labelled by the next letter."""
    steps, ends = np.arange(len(TEXT)), np.array([0, len(TEXT)])
    return Corpus(
        tokens=np.array(_numbers(TEXT), dtype=np.int32), offsets=ends, folds=np.array([0]), span_offsets=ends,
        starts=steps, ends=steps + 1, targets=np.array(_numbers(TARGET), dtype=np.float32)[:, None], row_ids=steps,
    )  # fmt: skip


def _recipe(config: LessonConfig) -> TrainConfig:
    return TrainConfig(
        epochs=config.epochs, min_steps=1, lr=config.lr, encoder_lr=1.0,
        batch_size=1, batch_tokens=len(TEXT), optimizer="adam",
        weight_decay=0.0, schedule="constant", warmup=0.0, clip_norm=None, label_smoothing=0.0, language_model=0.0,
        word_dropout=0.0, rare_word_dropout=0.0, ema=0.0, patience=None, precision="fp32",
    )  # fmt: skip


def _numbers(text: str) -> list[int]:
    return [LETTERS.index(letter) for letter in text]


def _spell(letters: list[int]) -> str:
    return "".join(LETTERS[letter] for letter in letters)
