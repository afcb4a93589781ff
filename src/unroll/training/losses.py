"""The training loss: that of the spans by kind of target and, if wanted, that of each word's neighbours."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from unroll.core.errors import UnrollError
from unroll.core.settings import TrainConfig
from unroll.data.competition import CLASSES
from unroll.models.span_classifier import SpanClassifier
from unroll.text.batches import Batch
from unroll.text.vocabulary import UNKNOWN_ID

NUM_SAMPLED = 512  # words in a sampled softmax
IGNORED = -1  # the class of a span whose label is not known


@dataclass(frozen=True)
class BatchTotals:
    """The numbers of labelled spans and pairs of neighbours in a whole batch, of which a process sees a shard."""

    labelled: float
    pairs: float


class Objective(nn.Module):
    """A model and its loss; a shard gives its share of the loss of the whole batch."""

    def __init__(self, model: SpanClassifier, config: TrainConfig, counts: Tensor) -> None:
        """Add the language model if the recipe has one, given each token's number of occurrences, (V,)."""
        super().__init__()
        self.model = model
        self.label_smoothing = config.label_smoothing
        self.language_model_weight = config.language_model
        self.language_model = LanguageModel(model, counts) if config.language_model else None

    def forward(self, batch: Batch, totals: BatchTotals) -> tuple[Tensor, Tensor]:
        """Return the loss to minimise and the part of it due to labels, per span of the whole batch, in nats."""
        hidden = self.model.encode(batch.tokens, batch.lengths)  # (B, T, D * H)
        raw = self.model.read_out(hidden, batch).float()  # (R, P)
        known = batch.targets.isfinite()  # (R, K)
        labelled = int(known.any(1).sum())
        # Without a target there is a loss too: every process needs a gradient of all weights.
        loss = self.span_loss(raw, batch.targets, known) if labelled else raw.sum() * 0
        loss = loss * (labelled / totals.labelled) if labelled != totals.labelled else loss
        if self.language_model is None:
            return loss, loss.detach()
        weight = self.language_model_weight / max(1, totals.pairs)
        return loss + weight * self.language_model(hidden, batch), loss.detach()

    def span_loss(self, raw: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        """Return the mean loss over the known targets, (R, K): cross-entropy, or the standardised squared error."""
        if self.model.kind in CLASSES:
            labels = torch.where(known, targets, IGNORED)[:, 0].long()  # (R,)
            return functional.cross_entropy(raw, labels, ignore_index=IGNORED, label_smoothing=self.label_smoothing)
        if self.model.kind == "multilabel":
            return functional.binary_cross_entropy_with_logits(raw[known], targets[known])
        standardised = (targets - self.model.offset) / self.model.scale
        return functional.mse_loss(raw[known], standardised[known])


class LanguageModel(nn.Module):
    """Predicts the next word from the forward states, and the word before from the backward ones.

    An auxiliary task, no part of the model that is saved (Rei, 2017, "Semi-supervised multitask learning for sequence
    labeling"). The softmax shares its weights with the word embeddings. Over a large vocabulary it is estimated from
    NUM_SAMPLED words, drawn by their counts to the power of 0.75 (Jean et al., 2015, "On using very large target
    vocabulary for neural machine translation").
    """

    def __init__(self, model: SpanClassifier, counts: Tensor) -> None:
        """Build the projections from states to embeddings, given each token's number of occurrences, (V,).

        Raises:
            UnrollError: the model has no embedding.
        """
        super().__init__()
        if model.embedding is None:
            raise UnrollError("train.language_model: needs a model.embedding, found null; set one of the two")
        self.words = [model.embedding]  # in a list, so that its weights are not registered twice
        directions = 2 if model.recurrent.bidirectional else 1
        size = model.embedding.embedding_dim
        self.projections = nn.ModuleList(nn.Linear(model.recurrent.hidden_size, size) for _ in range(directions))
        self.is_sampled = len(counts) > NUM_SAMPLED
        proposal = counts.float() ** 0.75
        proposal[UNKNOWN_ID] = 0
        self.register_buffer("proposal", proposal / proposal.sum())
        self.proposal: Tensor

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Return the summed loss of both directions in nats, given the states of a batch, (B, T, D * H).

        Unknown words are not predicted, nor is anything from or at padding.
        """
        states, tokens = hidden.chunk(len(self.projections), dim=2), batch.tokens
        places = torch.arange(1, tokens.shape[1], device=tokens.device)
        is_pair = True if batch.lengths is None else places < batch.lengths[:, None]  # (B, T - 1)
        neighbours = [(states[0][:, :-1], tokens[:, 1:]), (states[-1][:, 1:], tokens[:, :-1])]
        queries, targets = [], []
        for projection, (state, target) in zip(self.projections, neighbours, strict=False):
            known = (target != UNKNOWN_ID) & is_pair
            queries.append(projection(state)[known])
            targets.append(target[known])
        loss = self._sampled_loss if self.is_sampled else self._full_loss
        return loss(torch.cat(queries), torch.cat(targets))

    def _full_loss(self, queries: Tensor, targets: Tensor) -> Tensor:
        """Return the summed cross-entropy of targets (N,), given queries (N, E)."""
        logits = (queries @ self.words[0].weight.T).float()  # (N, V)
        logits[:, UNKNOWN_ID] = float("-inf")
        return functional.cross_entropy(logits, targets, reduction="sum")

    def _sampled_loss(self, queries: Tensor, targets: Tensor) -> Tensor:
        """Return an estimate of it, from the targets and words drawn at random."""
        sampled = torch.multinomial(self.proposal, NUM_SAMPLED, replacement=True)  # (K,)
        # The embedding layer, not an index: threads would sum the gradient of a repeated word in random order.
        vectors = self.words[0](torch.cat([targets, sampled]))  # (N + K, E)
        positive = (queries * vectors[: len(targets)]).sum(1)  # (N,)
        negative = queries @ vectors[len(targets) :].T - (NUM_SAMPLED * self.proposal[sampled]).log()  # (N, K)
        negative = negative.masked_fill(targets[:, None] == sampled, float("-inf"))
        logits = torch.cat([positive[:, None], negative], dim=1).float()  # (N, 1 + K)
        return functional.cross_entropy(logits, torch.zeros_like(targets), reduction="sum")
