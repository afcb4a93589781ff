"""Labels of test texts that the training part already contains."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from unroll.data.competition import UNLABELLED

Ints = npt.NDArray[np.int64]


def find_known_labels(train_texts: Sequence[str], train_labels: Ints, texts: Sequence[str]) -> Ints:
    """Look up texts, letter for letter, in the training part.

    Args:
        train_texts: (N,).
        train_labels: (N,).
        texts: (R,).

    Returns:
        The label of each text that the training part has with one label only, UNLABELLED for any other, (R,).
    """
    known: dict[str, int] = {}
    for text, label in zip(train_texts, train_labels.tolist(), strict=True):
        if known.setdefault(text, label) != label:
            known[text] = UNLABELLED
    return np.array([known.get(text, UNLABELLED) for text in texts], dtype=np.int64)
