"""Several models' probabilities as one answer, and labels that the training file already gives."""

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from unroll.models.ensemble import Calibration, Ensemble, Probabilities, _features, mix

Ints = npt.NDArray[np.int64]


def fit_weights(stacked: Probabilities, labels: Ints, steps: int = 200) -> Probabilities:
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


def fit_calibration(probabilities: Probabilities, lengths: Ints, labels: Ints) -> Calibration | None:
    """Fit a calibration by multinomial logistic regression on out-of-fold rows.

    Args:
        probabilities: (R, C).
        lengths: tokens of each text, (R,).
        labels: (R,).

    Returns:
        The calibration; None where a class has no row, since nothing can be learned of it.
    """
    if len(np.unique(labels)) < probabilities.shape[1]:
        return None
    features = _features(probabilities, lengths)  # (R, C + 1)
    scaler = StandardScaler().fit(features)
    fitted = LogisticRegression(max_iter=300).fit(scaler.transform(features), labels)
    weights, bias = fitted.coef_, fitted.intercept_
    if len(weights) == 1:  # of two classes it gives the second one's logits alone
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    weights = weights / scaler.scale_
    return Calibration(weights, bias - weights @ scaler.mean_)


def fit_ensemble(stacked: Probabilities, labels: Ints, lengths: Ints, *, calibrate: bool) -> Ensemble:
    """Find an ensemble on out-of-fold rows; arguments as in ensemble_out_of_fold."""
    weights = fit_weights(stacked, labels)
    return Ensemble(weights, fit_calibration(mix(stacked, weights), lengths, labels) if calibrate else None)


def ensemble_out_of_fold(
    stacked: Probabilities, labels: Ints, folds: Ints, lengths: Ints, *, calibrate: bool
) -> tuple[Ensemble, Probabilities]:
    """Find an ensemble and judge it honestly.

    Args:
        stacked: out-of-fold probabilities of M models, (M, R, C).
        labels: (R,).
        folds: which fold each row was held out in, (R,).
        lengths: tokens of each row's text, (R,).
        calibrate: whether the mixture is calibrated.

    Returns:
        The ensemble fitted on all rows, for the test part; and its probabilities, (R, C), where each fold's are made by
        an ensemble fitted on the other folds alone (a nested estimate). With one fold there is nothing to fit
        an ensemble on: the weights are equal, and nothing is calibrated.
    """
    different = np.unique(folds)
    if len(different) == 1:
        equal = Ensemble(np.full(len(stacked), 1 / len(stacked)), None)
        return equal, equal.apply(stacked, lengths)
    ensembled = np.empty(stacked.shape[1:])
    for fold in different:
        inside = folds == fold
        found = fit_ensemble(stacked[:, ~inside], labels[~inside], lengths[~inside], calibrate=calibrate)
        ensembled[inside] = found.apply(stacked[:, inside], lengths[inside])
    return fit_ensemble(stacked, labels, lengths, calibrate=calibrate), ensembled
