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
    found = np.empty((len(corpus.row_ids), model.outputs), dtype=np.float32)
    with torch.inference_mode():
        for batch in iterate_batches(corpus, sequences, MAX_SEQUENCES, MAX_TOKENS):
            raw = model(batch.to(device))  # (spans of the batch, P)
            found[batch.spans.numpy()] = model.activate(raw.float()).cpu().numpy()
    model.train(was_training)
    return found[corpus.spans_of(sequences)]
