"""Fitting an ensemble on out-of-fold probabilities: weights, calibration, and a nested estimate of how good it is."""

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from unroll.models.ensemble import Calibration, Ensemble, Probabilities, calibration_features, mix

Ints = npt.NDArray[np.int64]


def fit_weights(stacked: Probabilities, labels: Ints, steps: int = 200) -> Probabilities:
    """Return the mixture weights (M,) under which the labels (R,) are most likely, by expectation-maximisation.

    The models' out-of-fold probabilities are (M, R, C); the log-likelihood is concave in the weights, so the start of
    the iteration does not matter.
    """
    likelihoods = np.clip(stacked[:, np.arange(len(labels)), labels], 1e-12, None)  # (M, R)
    weights = np.full(len(stacked), 1 / len(stacked))
    for _ in range(steps):
        joint = weights[:, None] * likelihoods  # (M, R)
        weights = (joint / joint.sum(0)).mean(1)
    return weights


def fit_calibration(probabilities: Probabilities, lengths: Ints, labels: Ints) -> Calibration | None:
    """Fit a calibration by multinomial logistic regression on out-of-fold probabilities (R, C) and labels (R,).

    The lengths are the numbers of tokens, (R,). Where a class has no row there is no calibration.
    """
    if len(np.unique(labels)) < probabilities.shape[1]:
        return None
    scaler = StandardScaler()
    features = scaler.fit_transform(calibration_features(probabilities, lengths))  # (R, C + 1)
    fitted = LogisticRegression(max_iter=300).fit(features, labels)
    weights, bias = fitted.coef_, fitted.intercept_
    if len(weights) == 1:  # with two classes scikit-learn fits the logit of the second one only
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    weights = weights / scaler.scale_
    return Calibration(weights, bias - weights @ scaler.mean_)


def ensemble_out_of_fold(
    stacked: Probabilities, labels: Ints, folds: Ints, lengths: Ints, *, calibrate: bool
) -> tuple[Ensemble, Probabilities]:
    """Fit an ensemble, and predict each fold by one that was fitted on the other folds (a nested estimate).

    Args:
        stacked: out-of-fold probabilities of M models, (M, R, C).
        labels: (R,).
        folds: fold that held out each row, (R,).
        lengths: tokens of each row's text, (R,).
        calibrate: whether to calibrate the mixture.

    Returns:
        The ensemble fitted on all rows, and the nested probabilities, (R, C). With a single fold there are no other
        rows to fit on: the weights are equal, and nothing is calibrated.
    """

    def fit(rows: npt.NDArray[np.bool_]) -> Ensemble:
        weights = fit_weights(stacked[:, rows], labels[rows])
        mixed = mix(stacked[:, rows], weights)
        return Ensemble(weights, fit_calibration(mixed, lengths[rows], labels[rows]) if calibrate else None)

    if len(np.unique(folds)) == 1:
        equal = Ensemble(np.full(len(stacked), 1 / len(stacked)), None)
        return equal, equal.apply(stacked, lengths)
    nested = np.empty(stacked.shape[1:])
    for fold in np.unique(folds):
        held_out = folds == fold
        nested[held_out] = fit(~held_out).apply(stacked[:, held_out], lengths[held_out])
    return fit(np.ones(len(labels), dtype=bool)), nested
