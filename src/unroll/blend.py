"""Several models' probabilities as one answer, and labels that the training file already gives."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Probabilities = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def find_weights(stacked: Probabilities, labels: Ints, steps: int = 200) -> Probabilities:
    """Find the mixture of models under which the labels are most likely, by expectation-maximisation.

    Args:
        stacked: out-of-fold probabilities of M models, (M, R, C).
        labels: (R,).
        steps: iterations; the likelihood is concave in the weights, so the start does not matter.

    Returns:
        Weights that are not negative and sum to 1, (M,).
    """
    right = np.clip(stacked[:, np.arange(len(labels)), labels], 1e-12, None)  # (M, R)
    weights = np.full(len(stacked), 1 / len(stacked))
    for _ in range(steps):
        shares = weights[:, None] * right  # (M, R)
        weights = (shares / shares.sum(0)).mean(1)
    return weights


def mix(stacked: Probabilities, weights: Probabilities) -> Probabilities:
    """Return the weighted mean of M models' probabilities (M, R, C), as (R, C)."""
    mixed: Probabilities = np.tensordot(weights, stacked, axes=1)
    return mixed


def blend_out_of_fold(stacked: Probabilities, labels: Ints, folds: Ints) -> tuple[Probabilities, Probabilities]:
    """Find blend weights and judge them honestly.

    Args:
        stacked: out-of-fold probabilities of M models, (M, R, C).
        labels: (R,).
        folds: which fold each row was kept back in, (R,).

    Returns:
        The weights found on all rows, (M,), for the test part; and the blended probabilities, (R, C), where each
        fold's are mixed with weights found on the other folds alone (a nested estimate). With one fold there is
        nothing to find weights on, and they are equal.
    """
    different = np.unique(folds)
    if len(different) == 1:
        equal = np.full(len(stacked), 1 / len(stacked))
        return equal, mix(stacked, equal)
    blended = np.empty(stacked.shape[1:])
    for fold in different:
        inside = folds == fold
        weights = find_weights(stacked[:, ~inside], labels[~inside])
        blended[inside] = mix(stacked[:, inside], weights)
    return find_weights(stacked, labels), blended


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
