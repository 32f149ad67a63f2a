"""The class-map convolution, trained as what it is on frozen features: a regularised logistic regression."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from trainer.features import Features

Labels = NDArray[np.bool_]  # shape (n,)
Values = NDArray[np.float64]  # shape (n,) or (channels,)


@dataclass(frozen=True)
class Head:
    """Weights of a linear function of the features: its value is the logit."""

    kernel: Values  # shape (channels,)
    bias: float

    def logits(self, features: Features) -> Values:
        """Return the logit of each row of features."""
        logits: Values = features @ self.kernel + self.bias
        return logits

    def scaled(self, slope: float, intercept: float) -> "Head":
        """Return the head whose logits are `slope` times these, plus `intercept`."""
        return Head(self.kernel * slope, self.bias * slope + intercept)


def balanced_weights(sources: Sequence[str], labels: Labels, source_weights: Mapping[str, float]) -> Values:
    """Weigh examples so that each source counts as told, and sick and healthy count alike within it.

    A source that has only one of both counts half.
    """
    names = np.asarray(sources)
    weights = np.zeros(len(labels))
    for source, weight in source_weights.items():
        for label in (True, False):
            chosen = (names == source) & (labels == label)
            weights[chosen] = 0.5 * weight / max(1, chosen.sum())
    balanced: Values = weights / weights.sum()
    return balanced


def fit_head(features: Features, labels: Labels, weights: Values, weight_decay: float) -> Head:
    """Fit a head on standardised features; examples without weight have no influence.

    Minimised is the weighted mean of the logistic loss, plus half of `weight_decay` times the squared weights
    of the standardised features.
    """
    used = weights > 0
    kept = features[used].astype(np.float64)
    mean, deviation = kept.mean(axis=0), kept.std(axis=0) + 1e-3  # a feature that never fires stays small
    kernel, bias = _minimise((kept - mean) / deviation, labels[used], weights[used], weight_decay)
    return Head(kernel / deviation, bias - float(mean @ (kernel / deviation)))


def fit_scale(logits: Values, labels: Labels, weights: Values) -> tuple[float, float]:
    """Return slope and intercept that turn logits into calibrated ones.

    Source: Platt, Probabilistic Outputs for Support Vector Machines, 1999.
    """
    used = weights > 0
    kernel, bias = _minimise(logits[used, np.newaxis], labels[used], weights[used], 0.0)
    return float(kernel[0]), bias


def _minimise(
    features: NDArray[np.float64], labels: Labels, weights: Values, weight_decay: float
) -> tuple[Values, float]:
    share = weights / weights.sum()
    signs = np.where(labels, 1.0, -1.0)

    def loss(theta: Values) -> tuple[float, Values]:
        margins = signs * (features @ theta[:-1] + theta[-1])
        value = float(share @ np.logaddexp(0, -margins)) + 0.5 * weight_decay * float(theta[:-1] @ theta[:-1])
        slope = -share * signs * 0.5 * (1 - np.tanh(0.5 * margins))
        gradient = np.append(features.T @ slope + weight_decay * theta[:-1], slope.sum())
        return value, gradient

    found = minimize(
        loss, np.zeros(features.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 1000}
    )
    theta: Values = found.x
    return theta[:-1], float(theta[-1])
