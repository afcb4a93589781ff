"""A language model in both directions on the states of a recurrent layer."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from unroll.core.errors import UnrollError
from unroll.models.span_classifier import SpanClassifier
from unroll.text.batches import Batch
from unroll.text.vocabulary import UNKNOWN_ID

NUM_SAMPLED = 512  # words in a sampled softmax
PROJECTIONS = "language_model.safetensors"  # of a pretrained model, beside its bundle
NUM_EXACT = 512  # words whose exact softmax is computed at once


class LanguageModel(nn.Module):
    """Predicts the next word from the forward states, and the word before from the backward ones.

    The softmax shares its weights with the word embeddings. In training, over a large vocabulary, it is estimated from
    NUM_SAMPLED words, drawn by their counts to the power of 0.75 (Jean et al., 2015, "On using very large target
    vocabulary for neural machine translation"). Nothing here waits for a CUDA device.
    """

    def __init__(self, model: SpanClassifier, counts: Tensor) -> None:
        """Build the projections from states to embeddings, given each token's number of occurrences, (V,).

        Raises:
            UnrollError: the model has no embedding.
        """
        super().__init__()
        if model.embedding is None:
            raise UnrollError("a language model needs a model.embedding, found null; set its size")
        self.words = [model.embedding]  # in a list, so that its weights are not registered twice
        directions = 2 if model.recurrent.bidirectional else 1
        size = model.embedding.embedding_dim
        self.projections = nn.ModuleList(nn.Linear(model.recurrent.hidden_size, size) for _ in range(directions))
        self.is_sampled = len(counts) > NUM_SAMPLED
        proposal = counts.float() ** 0.75
        proposal[UNKNOWN_ID] = 0
        self.register_buffer("proposal", proposal / proposal.sum(), persistent=False)
        self.proposal: Tensor

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Return the summed loss of both directions in nats, given the states of a batch, (B, T, D * H).

        Unknown words are not predicted, nor is anything from or at padding.
        """
        queries, targets = (torch.cat(parts) for parts in zip(*self._pairs(hidden, batch), strict=True))
        logits, classes = self._sample(queries, targets) if self.is_sampled else (self.logits(queries), targets)
        classes = classes.masked_fill(targets == UNKNOWN_ID, -1)
        return functional.cross_entropy(logits.float(), classes, ignore_index=-1, reduction="sum")

    def logits(self, queries: Tensor) -> Tensor:
        """Return the logits of all words, (N, V), for queries (N, E); the unknown word cannot come."""
        logits = (queries @ self.words[0].weight.T).float()
        logits[:, UNKNOWN_ID] = float("-inf")
        return logits

    @torch.no_grad()
    def exact_losses(self, hidden: Tensor, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield for each direction its words, (N,), and the loss of each by the exact softmax in nats, (N,)."""
        for queries, targets in self._pairs(hidden, batch):
            known = targets != UNKNOWN_ID
            found, words = queries[known], targets[known]
            parts = zip(torch.split(found, NUM_EXACT), torch.split(words, NUM_EXACT), strict=True)
            losses = [functional.cross_entropy(self.logits(part), each, reduction="none") for part, each in parts]
            yield words, torch.cat(losses)

    def _pairs(self, hidden: Tensor, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each direction's queries, (N, E), and the words to predict, (N,); the unknown word at padding."""
        states, tokens = hidden.chunk(len(self.projections), dim=2), batch.tokens
        neighbours = [(states[0][:, :-1], tokens[:, 1:]), (states[-1][:, 1:], tokens[:, :-1])]
        for projection, (state, target) in zip(self.projections, neighbours, strict=False):
            if batch.lengths is not None:
                places = torch.arange(1, tokens.shape[1], device=tokens.device)
                target = target.masked_fill(places >= batch.lengths[:, None], UNKNOWN_ID)  # (B, T - 1)
            yield projection(state).flatten(0, 1), target.flatten()

    def _sample(self, queries: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of each target and of words drawn at random, (N, 1 + K), and the target's place, (N,)."""
        sampled = torch.multinomial(self.proposal, NUM_SAMPLED, replacement=True)  # (K,)
        # The embedding layer, not an index: threads would sum the gradient of a repeated word in random order.
        vectors = self.words[0](torch.cat([targets, sampled]))  # (N + K, E)
        positive = (queries * vectors[: len(targets)]).sum(1)  # (N,)
        negative = queries @ vectors[len(targets) :].T - (NUM_SAMPLED * self.proposal[sampled]).log()  # (N, K)
        negative = negative.masked_fill(targets[:, None] == sampled, float("-inf"))
        return torch.cat([positive[:, None], negative], dim=1), torch.zeros_like(targets)
