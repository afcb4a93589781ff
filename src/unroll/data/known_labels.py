"""Labels of test texts that the training file already gives."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def find_known_labels(train_texts: Sequence[str], train_labels: Ints, texts: Sequence[str]) -> Ints:
    """Look up texts, letter for letter, in the training part.

    Args:
        train_texts: (N,).
        train_labels: (N,).
        texts: (R,).

    Returns:
        The label of each text that stands in the training part with one label only, -1 for any other, (R,).
    """
    known: dict[str, int] = {}
    for text, label in zip(train_texts, train_labels.tolist(), strict=True):
        if known.setdefault(text, label) != label:
            known[text] = -1
    return np.array([known.get(text, -1) for text in texts], dtype=np.int64)
