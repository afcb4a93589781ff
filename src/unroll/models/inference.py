"""Predictions for the spans of a corpus."""

import numpy as np
import numpy.typing as npt
import torch

from unroll.models.span_classifier import SpanClassifier
from unroll.text.batches import iterate_batches
from unroll.text.corpus import Corpus, Ints

MAX_SEQUENCES, MAX_TOKENS = 256, 16_384  # in a batch; pooling takes up to 70 KB a token


def predict(model: SpanClassifier, corpus: Corpus, sequences: Ints) -> npt.NDArray[np.float32]:
    """Return the predictions for the sequences' spans, in the order of corpus.spans_of(sequences), (R, P)."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    spans, predictions = [], []
    with torch.inference_mode():
        for batch in iterate_batches(corpus, sequences, MAX_SEQUENCES, MAX_TOKENS):
            raw = model(batch.to(device))  # (spans of the batch, P)
            predictions.append(model.activate(raw.float()).cpu().numpy())
            spans.append(batch.spans.numpy())
    model.train(was_training)
    position = np.empty(len(corpus.row_ids), dtype=np.int64)  # of each span in the order of the batches
    position[np.concatenate(spans)] = np.arange(sum(map(len, spans)))
    return np.concatenate(predictions)[position[corpus.spans_of(sequences)]]
