"""Word dropout: tokens read as unknown in training."""

import torch
from torch import Tensor

from unroll.core.settings import TrainConfig
from unroll.text.vocabulary import UNKNOWN_ID


def word_drop_rates(counts: Tensor, config: TrainConfig) -> Tensor:
    """Return how often each token is read as unknown in training, (V,), given how often it stands there, (V,).

    A word is dropped with the rate `word_dropout`, and besides with a / (a + its count), where a is
    `rare_word_dropout`: words seen once teach the model to read a word that it does not know (Kiperwasser and
    Goldberg, 2016, "Simple and accurate dependency parsing using bidirectional LSTM feature representations").
    """
    counts = counts.float()
    rare = config.rare_word_dropout / (config.rare_word_dropout + counts).clamp(min=1e-9)
    return 1 - (1 - config.word_dropout) * (1 - rare)


def drop_words(tokens: Tensor, rates: Tensor) -> Tensor:
    """Replace tokens (B, T) by the unknown token, each with its own rate, (V,)."""
    return tokens.masked_fill(torch.rand(tokens.shape, device=tokens.device) < rates[tokens], UNKNOWN_ID)
