"""Tokenizers: from a text to its tokens."""

from collections.abc import Callable

from torchtext.data.utils import get_tokenizer as get_torchtext_tokenizer

from unroll.core.settings import TextConfig

Tokenizer = Callable[[str], list[str]]


def get_tokenizer(config: TextConfig) -> Tokenizer:
    """Return the function that cuts a text into tokens. A text with no token in it gives an empty list."""
    if config.tokenizer == "characters":
        cut: Tokenizer = list
    elif config.tokenizer == "whitespace":
        cut = str.split
    else:
        cut = get_torchtext_tokenizer(config.tokenizer)
    return (lambda text: cut(text.lower())) if config.lower else cut
