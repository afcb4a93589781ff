"""Training loops with the same sizes and AdamW: ours, and what is commonly written."""

import os
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torchtext.data import BucketIterator, Dataset, Example, Field

from benchmarks.dataset import TrainingData
from benchmarks.measure import Step
from unroll.core.settings import TaskConfig
from unroll.models.span_classifier import CELLS, SpanClassifier
from unroll.text.batches import plan_batches
from unroll.training.fit import EagerStep
from unroll.training.optimization import denormals_as_zero, make_optimizer
from unroll.training.state import TrainState

PHRASES = 64  # in a batch of the loops that read phrase by phrase
CLASSES = 5
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}


def flops_of(cell: str, config: TaskConfig, tokens: float) -> float:
    """Return the floating-point operations that a training step needs for so many real tokens: matrix products alone.

    Forward, and twice that backward; two for a multiplication and an addition. The head is left out.
    """
    model = config.model
    size, directions = model.hidden, 2 if model.bidirectional else 1
    first = GATES[cell] * size * ((model.embedding or 0) + size) * directions
    later = GATES[cell] * size * (size * directions + size) * directions * (model.layers - 1)
    return 3 * 2 * (first + later) * tokens


def ours(
    cell: str, config: TaskConfig, data: TrainingData, batch: int, batch_tokens: int | None = None
) -> Iterator[Step]:
    """Unroll's own steps: batches of similar lengths, a span for each phrase, averaged weights and word dropout."""
    corpus, lengths = data.corpus, np.diff(data.corpus.offsets)
    model = SpanClassifier(cell, config.model, len(data.vocabulary), CLASSES)
    counts = torch.from_numpy(np.bincount(corpus.tokens_of(data.train), minlength=len(data.vocabulary)))
    step = EagerStep(TrainState(model, config.train, counts, 10**6, 1, "accuracy"), corpus)
    generator, most = np.random.default_rng(1), batch_tokens or config.train.batch_tokens
    while True:
        for chunk in plan_batches(lengths[data.train], batch, most, generator):
            chosen = data.train[chunk]
            step(chosen)
            tokens = float(lengths[chosen].sum())
            phrases = float(len(corpus.spans_of(chosen)))
            yield {"phrases": phrases, "tokens": tokens, "flops": flops_of(cell, config, tokens)}


class Plain(nn.Module):
    """Embedding, recurrent layer, last states, linear layer, as tutorials write it."""

    def __init__(self, cell: str, config: TaskConfig, words: int, *, sparse: bool = False) -> None:
        """Build the layers; the embedding's gradient may be sparse."""
        super().__init__()
        size = config.model.hidden
        width = config.model.embedding or words
        self.embedding = nn.Embedding(words + 1, width, sparse=sparse)
        self.recurrent = CELLS[cell](width, size, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * size, CLASSES)

    def forward(self, tokens: Tensor, lengths: Tensor, *, packed: bool) -> Tensor:
        """Return logits, (B, C), for padded tokens (B, T) and lengths (B,)."""
        inputs = self.embedding(tokens)  # (B, T, E)
        if packed:
            inputs = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
            hidden, _ = pad_packed_sequence(self.recurrent(inputs)[0], batch_first=True)  # (B, T, 2H)
        else:
            hidden = self.recurrent(inputs)[0]  # (B, T, 2H)
        last = hidden[torch.arange(len(lengths)), lengths - 1]  # (B, 2H)
        logits: Tensor = self.head(last)
        return logits


def padded(cell: str, config: TaskConfig, data: TrainingData, *, packed: bool, fused: bool = True) -> Iterator[Step]:
    """Random batches padded to their longest phrase."""
    phrases, labels = phrases_of(data)
    model = Plain(cell, config, len(data.vocabulary))
    optimizer = make_optimizer(model, config.train) if fused else torch.optim.Adam(model.parameters())
    generator = np.random.default_rng(1)
    while True:
        order = generator.permutation(len(phrases))
        for first in range(0, len(order), PHRASES):
            chosen = order[first : first + PHRASES]
            texts = [torch.from_numpy(phrases[number].astype(np.int64)) for number in chosen]
            lengths = torch.tensor([len(text) for text in texts])
            logits = model(pad_sequence(texts, batch_first=True), lengths, packed=packed)
            learn(model, optimizer, logits, torch.from_numpy(labels[chosen]))
            yield {"phrases": float(len(chosen)), "flops": flops_of(cell, config, float(lengths.sum()))}


def ours_padded(cell: str, config: TaskConfig, data: TrainingData, batch_tokens: int) -> Iterator[Step]:
    """Read the same batches as `ours` forward and backward, without an optimizer: what PyTorch's layers alone take."""
    texts, labels = phrases_of(data)
    model = Plain(cell, config, len(data.vocabulary), sparse=True)
    sizes, generator = np.array([len(text) for text in texts]), np.random.default_rng(1)
    while True:
        for chosen in plan_batches(sizes, config.train.batch_size, batch_tokens, generator):
            batch = [torch.from_numpy(texts[each].astype(np.int64)) for each in chosen]
            lengths = torch.from_numpy(sizes[chosen])
            model.zero_grad()
            with denormals_as_zero():  # as ours
                logits = model(pad_sequence(batch, batch_first=True), lengths, packed=False)
                torch.autograd.backward(functional.cross_entropy(logits, torch.from_numpy(labels[chosen])))
            yield {"tokens": float(lengths.sum())}


def bucketed(cell: str, config: TaskConfig, data: TrainingData) -> Iterator[Step]:
    """Use torchtext's BucketIterator."""
    phrases, labels = phrases_of(data)
    text = Field(use_vocab=False, batch_first=True, pad_token=0, include_lengths=True)
    label = Field(use_vocab=False, sequential=False)
    fields = [("text", text), ("label", label)]
    examples = [
        Example.fromlist([phrase.tolist(), int(of)], fields) for phrase, of in zip(phrases, labels, strict=True)
    ]
    random.seed(1)
    batches = BucketIterator(
        Dataset(examples, fields), PHRASES, sort_key=lambda example: len(example.text), train=True, repeat=False
    )
    model = Plain(cell, config, len(data.vocabulary))
    optimizer = make_optimizer(model, config.train)
    while True:
        for batch in batches:
            tokens, lengths = batch.text
            learn(model, optimizer, model(tokens, lengths, packed=False), batch.label)
            yield {"phrases": float(len(lengths)), "flops": flops_of(cell, config, float(lengths.sum()))}


def keras(cell: str, config: TaskConfig, data: TrainingData) -> Iterator[Step] | None:
    """Use Keras on torch, padded; None where Keras is not installed."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        import keras as library
    except ImportError:
        return None
    return _keras(library, cell, config, data)


def _keras(library: Any, cell: str, config: TaskConfig, data: TrainingData) -> Iterator[Step]:
    phrases, labels = phrases_of(data)
    kinds = {"RNN": library.layers.SimpleRNN, "LSTM": library.layers.LSTM, "GRU": library.layers.GRU}
    width = config.model.embedding or 1
    model = library.Sequential(
        [
            library.layers.Embedding(len(data.vocabulary) + 1, width),
            library.layers.Bidirectional(kinds[cell](config.model.hidden)),
            library.layers.Dense(CLASSES),
        ]
    )
    model.compile("adam", library.losses.SparseCategoricalCrossentropy(from_logits=True))
    generator = np.random.default_rng(1)
    while True:
        chosen = generator.integers(0, len(phrases), PHRASES)
        lengths = [len(phrases[number]) for number in chosen]
        tokens = np.zeros((PHRASES, max(lengths)), dtype=np.int64)
        for row, number in enumerate(chosen):
            tokens[row, : lengths[row]] = phrases[number]
        model.train_on_batch(tokens, labels[chosen])
        yield {"phrases": float(PHRASES), "flops": flops_of(cell, config, float(sum(lengths)))}


def phrases_of(data: TrainingData) -> tuple[Sequence[np.ndarray], np.ndarray]:
    """Return the training phrases' tokens, each counted from 1 so that 0 pads, and their labels."""
    corpus = data.corpus
    tokens = [corpus.tokens[corpus.offsets[number] : corpus.offsets[number + 1]] + 1 for number in data.train]
    return tokens, corpus.targets[corpus.spans_of(data.train), 0].astype(np.int64)


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, logits: Tensor, labels: Tensor) -> None:
    """Take one step."""
    optimizer.zero_grad()
    torch.autograd.backward(functional.cross_entropy(logits, labels))
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
