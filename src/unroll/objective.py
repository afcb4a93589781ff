"""What a training lowers: the spans' cross-entropy and, where it is wanted, that of the words beside each word."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from unroll.config import TrainConfig
from unroll.corpus import UNLABELLED, Batch
from unroll.errors import UnrollError
from unroll.model import SpanClassifier
from unroll.text import UNKNOWN_ID

NOISE_WORDS = 512


@dataclass(frozen=True)
class Whole:
    """The size of the batch that a part is learned for: its labelled spans and its sequences."""

    labelled: float
    sequences: float


class Objective(nn.Module):
    """A model and its loss, so that a part of a batch gives just its share of the loss of the whole."""

    def __init__(self, model: SpanClassifier, config: TrainConfig, counts: Tensor) -> None:
        """Set what is to be lowered.

        Args:
            model: the one that learns.
            config: the recipe.
            counts: how often each token is read in an epoch, (V,).
        """
        super().__init__()
        self.model = model
        self.label_smoothing = config.label_smoothing
        self.weight = config.language_model
        self.language_model = LanguageModel(model, counts) if config.language_model else None

    def forward(self, batch: Batch, whole: Whole) -> tuple[Tensor, Tensor]:
        """Return the loss to be lowered, and how much of it the labels are alone, both in nats a span of the whole."""
        hidden = self.model.encode(batch.tokens)  # (B, T, D * H)
        logits = self.model.read_out(hidden, batch)  # (R, C)
        labelled = int((batch.labels != UNLABELLED).sum())
        if labelled:
            loss = functional.cross_entropy(
                logits.float(), batch.labels, ignore_index=UNLABELLED, label_smoothing=self.label_smoothing
            )
        else:
            loss = logits.sum() * 0  # all processes have to have a gradient of all weights
        loss = loss * (labelled / whole.labelled) if labelled != whole.labelled else loss
        if self.language_model is None:
            return loss, loss.detach()
        share = len(batch.tokens) / whole.sequences
        return loss + self.weight * share * self.language_model(hidden, batch.tokens), loss.detach()


class LanguageModel(nn.Module):
    """Reads the next word from a recurrent layer's states, and from those that read backward the one before.

    It is an auxiliary task for the layer below, and no part of the model that is kept (Rei, 2017, "Semi-supervised
    multitask learning for sequence labeling"). The words' own embeddings are the weights of its softmax, which is
    sampled: its sum over the vocabulary is estimated from NOISE_WORDS words, drawn by their counts to the power of 0.75
    (Jean et al., 2015, "On using very large target vocabulary for neural machine translation").
    """

    def __init__(self, model: SpanClassifier, counts: Tensor) -> None:
        """Build the layers between the states and the embedding.

        Args:
            model: has an embedding, and one recurrent layer or one direction.
            counts: how often each token is read in an epoch, (V,).

        Raises:
            UnrollError: the model has no embedding.
        """
        super().__init__()
        if model.embedding is None:
            raise UnrollError("a language model needs words that are embedded; set model.embedding")
        self.words = [model.embedding]  # in a list, the weights are the model's alone
        directions = 2 if model.recurrent.bidirectional else 1
        size = model.embedding.embedding_dim
        self.readers = nn.ModuleList(nn.Linear(model.recurrent.hidden_size, size) for _ in range(directions))
        noise = counts.float() ** 0.75
        noise[UNKNOWN_ID] = 0
        self.register_buffer("noise", noise / noise.sum())
        self.noise: Tensor

    def forward(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Return the loss in nats a place where a word has a neighbour, both directions together, a scalar.

        Args:
            hidden: states of the layer, (B, T, D * H).
            tokens: the words, (B, T); unknown ones are not asked for.
        """
        states = hidden.chunk(len(self.readers), dim=2)
        asked = [(states[0][:, :-1], tokens[:, 1:]), (states[-1][:, 1:], tokens[:, :-1])]
        drawn = torch.multinomial(self.noise, NOISE_WORDS, replacement=True)  # (K,)
        losses = [
            self._tell(reader(state), target, drawn)
            for reader, (state, target) in zip(self.readers, asked, strict=False)
        ]
        return torch.stack(losses).sum() / max(1, tokens[:, 1:].numel())

    def _tell(self, readings: Tensor, targets: Tensor, drawn: Tensor) -> Tensor:
        """Return the summed loss of telling the targets, (B, T - 1), from drawn words by readings (B, T - 1, E)."""
        known = targets != UNKNOWN_ID
        readings, targets = readings[known], targets[known]  # (N, E), (N,)
        words = self.words[0].weight  # (V, E)
        right = (readings * words[targets]).sum(1)  # (N,)
        wrong = readings @ words[drawn].T - (len(drawn) * self.noise[drawn]).log()  # (N, K)
        wrong = wrong.masked_fill(targets[:, None] == drawn, float("-inf"))
        logits = torch.cat([right[:, None], wrong], dim=1).float()  # (N, 1 + K)
        return functional.cross_entropy(logits, torch.zeros_like(targets), reduction="sum")
