"""Fitting an ensemble on out-of-fold predictions: weights, calibration, and a nested estimate of how good it is."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from unroll.data.competition import CLASSES, Competition
from unroll.models.ensemble import Calibration, Ensemble, Probabilities, calibration_features, mix

Ints = npt.NDArray[np.int64]
STEPS = 200  # of expectation-maximisation
SUM_WEIGHT = 1e3  # of the condition that the weights sum to 1, against the standardised errors


def fit_weights(task: Competition, stacked: Probabilities, truth: Probabilities) -> Probabilities:
    """Return the mixture weights (M,) of M models' out-of-fold predictions (M, R, P), given the truth (R, K).

    Under those of probabilities the truth is most likely (by expectation-maximisation: the log-likelihood is concave in
    the weights, so the start does not matter); those of numbers have the least squared error.
    """
    if task.kind == "number":
        scale = truth.std(0) + 1e-12
        columns = (stacked / scale).reshape(len(stacked), -1).T / np.sqrt(truth.size)  # (R * K, M)
        wanted = (truth / scale).ravel() / np.sqrt(truth.size)
        found, _ = nnls(np.vstack([columns, np.full(len(stacked), SUM_WEIGHT)]), np.append(wanted, SUM_WEIGHT))
        return np.asarray(found / found.sum(), dtype=np.float64)
    if task.kind in CLASSES:
        likelihoods = stacked[:, np.arange(len(truth)), truth[:, 0].astype(int)]  # (M, R)
    else:
        likelihoods = np.where(truth > 0, stacked, 1 - stacked).reshape(len(stacked), -1)  # (M, R * K)
    likelihoods = np.clip(likelihoods, 1e-12, None)
    weights: Probabilities = np.full(len(stacked), 1 / len(stacked))
    for _ in range(STEPS):
        joint = weights[:, None] * likelihoods
        weights = np.asarray((joint / joint.sum(0)).mean(1), dtype=np.float64)
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
    task: Competition, stacked: Probabilities, truth: Probabilities, folds: Ints, lengths: Ints, *, calibrate: bool
) -> tuple[Ensemble, Probabilities]:
    """Fit an ensemble, and predict each fold by one that was fitted on the other folds (a nested estimate).

    Args:
        task: what is predicted.
        stacked: out-of-fold predictions of M models, (M, R, P).
        truth: (R, K).
        folds: fold that held out each row, (R,).
        lengths: tokens of each row's text, (R,).
        calibrate: whether to calibrate the mixture, of classes only.

    Returns:
        The ensemble fitted on all rows, and the nested predictions, (R, P). With a single fold there are no other
        rows to fit on: the weights are equal, and nothing is calibrated.
    """

    def fit(rows: npt.NDArray[np.bool_]) -> Ensemble:
        weights = fit_weights(task, stacked[:, rows], truth[rows])
        if not calibrate or task.kind not in CLASSES:
            return Ensemble(weights)
        labels = truth[rows, 0].astype(np.int64)
        return Ensemble(weights, fit_calibration(mix(stacked[:, rows], weights), lengths[rows], labels))

    if len(np.unique(folds)) == 1:
        equal = Ensemble(np.full(len(stacked), 1 / len(stacked)))
        return equal, equal.apply(stacked, lengths)
    nested = np.empty(stacked.shape[1:])
    for fold in np.unique(folds):
        held_out = folds == fold
        nested[held_out] = fit(~held_out).apply(stacked[:, held_out], lengths[held_out])
    return fit(np.ones(len(truth), dtype=bool)), nested
