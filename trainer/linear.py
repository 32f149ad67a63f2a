"""A linear function of features, fitted exactly: a regularised logistic regression."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Features = NDArray[np.float32]  # shape (n, channels)
Labels = NDArray[np.bool_]  # shape (n,)
Values = NDArray[np.float64]  # shape (n,) or (channels,)

ITERATIONS: Final = 500  # at most; fits of thousands of features take less than a hundred
CLOSE: Final = 1e-7  # relative change of the loss at which a fit ends: closer changes no verdict
QUIET: Final = 1e-3  # added to a feature's deviation: one that hardly ever fires stays small


@dataclass(frozen=True)
class Linear:
    """Its value is the logit."""

    kernel: Values  # shape (channels,)
    bias: float

    def __call__(self, features: Features) -> Values:
        """Return the logit of each row."""
        return (features @ self.kernel.astype(np.float32)).astype(np.float64) + self.bias


def fit_linear(features: Features, labels: Labels, weights: Values, decay: float, free: int = 0) -> Linear:
    """Fit on standardised features; rows without weight have no influence.

    Minimised is the weighted mean of the logistic loss plus half of `decay` times the squared weights of the
    standardised features, but for the last `free` of them.
    """
    used = weights > 0
    share = weights[used] / weights[used].sum()
    kept, signs = features[used], np.where(labels[used], 1.0, -1.0)
    mean, deviation = kept.mean(axis=0, dtype=np.float64), kept.std(axis=0, dtype=np.float64) + QUIET
    standard = ((kept - mean) / deviation).astype(np.float32)
    penalty = np.full(features.shape[1], decay)
    penalty[features.shape[1] - free :] = 0.0

    def loss(theta: Values) -> tuple[float, Values]:
        kernel = theta[:-1]
        margins = signs * (standard @ kernel.astype(np.float32) + theta[-1])
        value = float(share @ np.logaddexp(0, -margins)) + 0.5 * float(penalty @ kernel**2)
        slope = -share * signs * 0.5 * (1 - np.tanh(0.5 * margins))
        gradient = standard.T @ slope.astype(np.float32) + penalty * kernel
        return value, np.append(gradient, slope.sum())

    start = np.zeros(features.shape[1] + 1)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS, "ftol": CLOSE})
    kernel = found.x[:-1] / deviation
    return Linear(kernel, float(found.x[-1] - mean @ kernel))
