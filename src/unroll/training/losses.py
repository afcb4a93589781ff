"""The training loss: that of the spans by kind of target and, if wanted, that of each word's neighbours."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from unroll.core.settings import TrainConfig
from unroll.data.competition import CLASSES
from unroll.models.language_model import LanguageModel
from unroll.models.span_classifier import SpanClassifier
from unroll.text.batches import Batch

IGNORED = -1  # the class of a span whose label is not known


@dataclass(frozen=True)
class BatchTotals:
    """The numbers of labelled spans and pairs of neighbours in a whole batch, of which a process sees a shard.

    The loss is divided by them, so they are at least 1.
    """

    labelled: float | Tensor
    pairs: float | Tensor


class Objective(nn.Module):
    """A model and its loss; a shard gives its share of the loss of the whole batch."""

    def __init__(
        self, model: SpanClassifier, config: TrainConfig, counts: Tensor, *, reports_all: bool = False
    ) -> None:
        """Add the language model if the recipe has one, given each token's number of occurrences, (V,).

        With reports_all the reported loss has the language model's in it.
        """
        super().__init__()
        self.model, self.reports_all = model, reports_all
        self.label_smoothing = config.label_smoothing
        self.language_model_weight = config.language_model
        self.language_model = LanguageModel(model, counts) if config.language_model else None

    def forward(self, batch: Batch, totals: BatchTotals) -> tuple[Tensor, Tensor]:
        """Return the loss to minimise and the one to report, by default its part due to labels per span, in nats."""
        hidden = self.model.encode(batch.tokens, batch.lengths)  # (B, T, D * H)
        raw = self.model.read_out(hidden, batch).float()  # (R, P)
        loss = self.span_loss(raw, batch.targets) / totals.labelled
        if self.language_model is None:
            return loss, loss.detach()
        weight = self.language_model_weight / totals.pairs
        both = loss + weight * self.language_model(hidden, batch)
        return both, (both if self.reports_all else loss).detach()

    def span_loss(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Return the summed loss of the spans, each the mean of its known targets: cross-entropy, or the squared error.

        Targets, (R, K), that are not known add nothing. Nothing here waits for a CUDA device.
        """
        known = targets.isfinite()  # (R, K)
        if self.model.kind in CLASSES:
            labels = torch.where(known, targets, IGNORED)[:, 0].long()  # (R,)
            return functional.cross_entropy(
                raw, labels, ignore_index=IGNORED, reduction="sum", label_smoothing=self.label_smoothing
            )
        targets = torch.where(known, targets, 0)
        if self.model.kind == "multilabel":
            losses = functional.binary_cross_entropy_with_logits(raw, targets, reduction="none")
        else:
            losses = (raw - (targets - self.model.offset) / self.model.scale) ** 2
        return ((losses * known).sum(1) / known.sum(1).clamp(min=1)).sum()
