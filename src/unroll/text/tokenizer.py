"""Tokenizers: from a text to its tokens."""

from collections.abc import Callable

from torchtext.data.utils import get_tokenizer as get_torchtext_tokenizer

from unroll.core.settings import TextConfig

Tokenizer = Callable[[str], list[str]]


def get_tokenizer(config: TextConfig) -> Tokenizer:
    """Return the function that splits a text into tokens; a blank text has none."""
    splitters: dict[str, Tokenizer] = {"characters": list, "whitespace": str.split}
    split = splitters.get(config.tokenizer) or get_torchtext_tokenizer(config.tokenizer)
    return (lambda text: split(text.lower())) if config.lower else split
