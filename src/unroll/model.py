"""The one model: encode a sequence once, read out any span of it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from unroll.config import ModelConfig, Pooling
from unroll.corpus import Batch
from unroll.errors import UnrollError

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}


class SpanClassifier(nn.Module):
    """Embed the tokens, run the recurrent layers, pool each span from the hidden states, name it with a linear layer.

    Letters in the shapes: B sequences, T tokens each, E input size, D directions, H hidden size of one direction,
    R spans, P poolings, C classes.
    """

    def __init__(self, cell: str, config: ModelConfig, tokens: int, classes: int) -> None:
        """Build the layers.

        Args:
            cell: one of CELLS.
            config: sizes, pooling and dropout.
            tokens: size of the vocabulary.
            classes: number of classes.

        Raises:
            UnrollError: the model has no head and its pooled size is not the number of classes.
        """
        super().__init__()
        self.tokens = tokens
        self.pooling = config.pooling
        self.embedding = nn.Embedding(tokens, config.embedding) if config.embedding else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=0.1)
        self.recurrent = CELLS[cell](
            config.embedding or tokens,
            config.hidden,
            num_layers=config.layers,
            batch_first=True,
            dropout=config.layer_dropout if config.layers > 1 else 0.0,
            bidirectional=config.bidirectional,
        )
        self.embedding_dropout = Dropout(config.embedding_dropout)
        self.head_dropout = Dropout(config.head_dropout)
        pooled = config.hidden * (2 if config.bidirectional else 1) * len(config.pooling)
        if config.head == "none" and pooled != classes:
            raise UnrollError(
                f"model.head: none needs a pooled size of {classes}, the number of classes, found {pooled}"
            )
        self.head = make_head(config, pooled, classes)

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits of the batch's spans, (R, C)."""
        return self.read_out(self.encode(batch.tokens), batch)

    def read_out(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Return the logits of the batch's spans, (R, C), from the last layer's states (B, T, D * H)."""
        pooled = pool_spans(hidden, batch.sequence, batch.start, batch.end, self.pooling)  # (R, P * D * H)
        logits: Tensor = self.head(self.head_dropout(pooled))  # (R, C)
        return logits

    def encode(self, tokens: Tensor) -> Tensor:
        """Return the hidden states of the last layer, (B, T, D * H), for token numbers (B, T)."""
        hidden: Tensor = self.recurrent(self.embedding_dropout(self.embed(tokens)))[0]  # (B, T, D * H)
        return hidden

    def embed(self, tokens: Tensor) -> Tensor:
        """Return what the recurrent layers read, (B, T, E), for token numbers (B, T)."""
        if self.embedding is None:
            return functional.one_hot(tokens, self.tokens).to(self.recurrent.all_weights[0][0].dtype)
        inputs: Tensor = self.embedding(tokens)
        return inputs


class Dropout(nn.Module):
    """Dropout whose mask takes a random byte a number: on a CPU a tenth of the time of torch's own.

    The rate is rounded to a multiple of 1/256, and the scale is that of the rounded rate.
    """

    def __init__(self, rate: float) -> None:
        """Set the share of numbers that become zero in training."""
        super().__init__()
        self.rate = rate

    def forward(self, values: Tensor) -> Tensor:
        """Return the values, in training some of them zero and the others scaled up; any shape."""
        if not self.training or not self.rate:
            return values
        if values.device.type != "cpu":
            return functional.dropout(values, self.rate)
        dropped = round(self.rate * 256)
        words = torch.empty(-(-values.numel() // 8), dtype=torch.int64).random_(-(2**63), 2**63 - 1)
        kept = words.view(torch.uint8)[: values.numel()].view(values.shape) >= dropped
        return values * kept * (256 / (256 - dropped))


def make_head(config: ModelConfig, pooled: int, classes: int) -> nn.Module:
    """Return what names a span, from its pooled states (R, pooled) to logits (R, C)."""
    if config.head == "none":
        return nn.Identity()
    if config.head_hidden is None:
        return nn.Linear(pooled, classes)
    return nn.Sequential(
        nn.Linear(pooled, config.head_hidden),
        nn.ReLU(),
        Dropout(config.head_dropout),
        nn.Linear(config.head_hidden, classes),
    )


def pool_spans(hidden: Tensor, sequence: Tensor, start: Tensor, end: Tensor, pooling: Sequence[Pooling]) -> Tensor:
    """Pool each span's hidden states, all spans at once.

    Args:
        hidden: hidden states, (B, T, H).
        sequence: which of the B sequences each span lies in, (R,).
        start: first token of each span, (R,).
        end: the token after the last one, (R,), larger than start.
        pooling: what to take: the states at the first or the last token, their mean, their maximum.

    Returns:
        One block of H for each pooling, side by side, (R, P * H).
    """
    take = {"first": _first, "last": _last, "mean": _mean, "max": _max}
    return torch.cat([take[kind](hidden, sequence, start, end) for kind in pooling], dim=1)


def _gather(states: Tensor, sequence: Tensor, token: Tensor) -> Tensor:
    """Return states[sequence, token], (R, H), for states (B, T, H); its gradient is a plain sum over rows."""
    return states.flatten(0, 1).index_select(0, sequence * states.shape[1] + token)


def _first(hidden: Tensor, sequence: Tensor, start: Tensor, end: Tensor) -> Tensor:
    return _gather(hidden, sequence, start)


def _last(hidden: Tensor, sequence: Tensor, start: Tensor, end: Tensor) -> Tensor:
    return _gather(hidden, sequence, end - 1)


def _mean(hidden: Tensor, sequence: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Take the mean as the difference of two running sums, so that a long span costs what a short one does."""
    sums = functional.pad(hidden.cumsum(1, dtype=_at_least_fp32(hidden)), (0, 0, 1, 0))  # (B, T + 1, H)
    total = _gather(sums, sequence, end) - _gather(sums, sequence, start)  # (R, H)
    return (total / (end - start)[:, None]).to(hidden.dtype)


def _max(hidden: Tensor, sequence: Tensor, start: Tensor, end: Tensor) -> Tensor:
    maxima: Tensor = _SpanMax.apply(hidden, sequence, start, end)  # type: ignore[no-untyped-call]
    return maxima


class _SpanMax(torch.autograd.Function):
    """The maximum from a doubling table: any span is the union of two windows of a power of two tokens.

    The table's row k holds the maximum over the 2^k tokens from each position on (Bender and Farach-Colton, 2000,
    "The LCA problem revisited"). The gradient is written out, since autograd's own for `torch.maximum`, which shares it
    between equal values, takes four times as long on a CPU; here the earlier of two equal values gets it.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, sequence: Tensor, start: Tensor, end: Tensor) -> Tensor:
        batch, length, _ = hidden.shape
        rows = [hidden]
        while 2 ** len(rows) <= length:
            below, step = rows[-1], 2 ** (len(rows) - 1)
            rows.append(torch.cat([torch.maximum(below[:, :-step], below[:, step:]), below[:, -step:]], dim=1))
        table = torch.stack(rows)  # (K, B, T, H)
        level = torch.frexp((end - start).float()).exponent.long() - 1  # (R,), the whole part of log2
        row = (level * batch + sequence) * length
        left, right = row + start, row + end - 2**level  # (R,), the two windows' places in the flat table
        flat = table.flatten(0, 2)  # (K * B * T, H)
        ctx.save_for_backward(table, left, right)
        return torch.maximum(flat.index_select(0, left), flat.index_select(0, right))  # (R, H)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        table, left, right = ctx.saved_tensors
        flat, gradients = table.flatten(0, 2), torch.zeros_like(table)
        is_left = flat.index_select(0, left) >= flat.index_select(0, right)  # (R, H)
        to_left = gradient * is_left
        gradients.flatten(0, 2).index_add_(0, left, to_left).index_add_(0, right, gradient - to_left)
        for level in range(len(table) - 1, 0, -1):
            step, below, above = 2 ** (level - 1), table[level - 1], gradients[level]
            to_left = above[:, :-step] * (below[:, :-step] >= below[:, step:])
            gradients[level - 1][:, step:] += above[:, :-step] - to_left
            gradients[level - 1][:, :-step] += to_left
            gradients[level - 1][:, -step:] += above[:, -step:]
        return gradients[0], None, None, None


def _at_least_fp32(hidden: Tensor) -> torch.dtype:
    return torch.promote_types(hidden.dtype, torch.float32)
