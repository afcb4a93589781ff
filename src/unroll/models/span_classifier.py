"""The one model: encode a sequence once, classify any span of it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from unroll.core.errors import UnrollError
from unroll.core.settings import ModelConfig
from unroll.data.competition import Kind
from unroll.models.dropout import Dropout
from unroll.models.pooling import pool_spans
from unroll.models.recurrent import run_layers
from unroll.text.batches import Batch

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}


class SpanClassifier(nn.Module):
    """Embed the tokens, run the recurrent layers, pool each span from the hidden states, classify it in the head.

    Letters in the shapes: B sequences, T tokens each, E input size, D directions, H hidden size of one direction,
    R spans, Q poolings, P outputs.
    """

    def __init__(self, cell: str, config: ModelConfig, tokens: int, outputs: int, kind: Kind = "classes") -> None:
        """Build the layers.

        Args:
            cell: one of CELLS.
            config: sizes, pooling and dropout.
            tokens: size of the vocabulary, V.
            outputs: number of outputs, P.
            kind: of target, which says what the outputs are.

        Raises:
            UnrollError: the model has no head and its pooled size is not the number of outputs.
        """
        super().__init__()
        self.tokens, self.outputs, self.kind = tokens, outputs, kind
        self.pooling = config.pooling
        self.embedding = None
        if config.embedding:
            weight = torch.empty(tokens, config.embedding)
            if not weight.is_meta:  # where nothing is drawn, but torch's compiler would be loaded, which takes a second
                nn.init.normal_(weight, std=0.1)
            self.embedding = nn.Embedding(tokens, config.embedding, _weight=weight)
        self.recurrent = CELLS[cell](
            config.embedding or tokens,
            config.hidden,
            num_layers=config.layers,
            batch_first=True,
            dropout=config.layer_dropout if config.layers > 1 else 0.0,
            bidirectional=config.bidirectional,
        )
        self.embedding_dropout = Dropout(config.embedding_dropout)
        self.head_dropout = config.head_dropout
        pooled = config.hidden * (2 if config.bidirectional else 1) * len(config.pooling)
        if config.head == "none" and pooled != outputs:
            raise UnrollError(f"model.head: none needs a pooled size of {outputs} (one an output), found {pooled}")
        self.head = make_head(config, pooled, outputs)
        if kind == "number":  # mean and standard deviation of the training part, (P,)
            self.register_buffer("offset", torch.zeros(outputs))
            self.register_buffer("scale", torch.ones(outputs))
        self.offset: Tensor
        self.scale: Tensor

    def forward(self, batch: Batch) -> Tensor:
        """Return the raw outputs of the batch's spans, (R, P); see `activate`."""
        return self.read_out(self.encode(batch.tokens, batch.lengths), batch)

    def activate(self, raw: Tensor) -> Tensor:
        """Return predictions, (R, P): probabilities of classes or labels, or numbers, from the raw outputs (R, P)."""
        if self.kind == "number":
            return raw * self.scale + self.offset
        return raw.sigmoid() if self.kind == "multilabel" else raw.softmax(-1)

    def read_out(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Return the raw outputs of the batch's spans, (R, P), from the last layer's hidden states, (B, T, D * H)."""
        dropout = self.head_dropout if self.training else 0.0
        pooled = pool_spans(hidden, batch.sequence, batch.start, batch.end, self.pooling, dropout)  # (R, Q * D * H)
        logits: Tensor = self.head(pooled)  # (R, P)
        return logits

    def encode(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the hidden states of the last layer, (B, T, D * H), for token numbers (B, T); see run_layers."""
        return run_layers(self.recurrent, self.embedding_dropout(self.embed(tokens)), lengths)

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the input of the recurrent layers, (B, T, E), for token numbers (B, T)."""
        if self.embedding is None:
            return functional.one_hot(tokens, self.tokens).to(self.recurrent.all_weights[0][0].dtype)  # (B, T, V)
        inputs: Tensor = self.embedding(tokens)  # (B, T, E)
        return inputs


def make_head(config: ModelConfig, pooled: int, outputs: int) -> nn.Module:
    """Return the layers from pooled states, (R, pooled), to raw outputs, (R, P)."""
    if config.head == "none":
        return nn.Identity()
    if config.head_hidden is None:
        return nn.Linear(pooled, outputs)
    return nn.Sequential(
        nn.Linear(pooled, config.head_hidden),
        nn.ReLU(),
        Dropout(config.head_dropout),
        nn.Linear(config.head_hidden, outputs),
    )
