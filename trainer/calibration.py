"""From logits to decisions: calibration and threshold, chosen on validation data, never on test data."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from lungnode.activation import ClassMaps, smooth
from lungnode.errors import UnusableError
from lungnode.logits import to_logits, to_probabilities
from lungnode.model_folder import Decision
from trainer.metrics import Labels, Scores, best_threshold, between

BINS: Final = 10  # of the reliability plot
# Limits of the slope, a standard deviation of the logits.
FLATTEST: Final = 0.001  # a validation set that is ranked upside down would ask for less than nothing
STEEPEST: Final = 100.0  # one that is told apart perfectly would ask for more
FULL_STRENGTH: Final = 99.0  # percentile of sick slices' activations that a heatmap shows at full strength


@dataclass(frozen=True)
class Aim:
    """How calibration and threshold are chosen."""

    method: Literal["platt", "temperature"] = "platt"
    sensitivity: float | None = None  # at least; None: the largest sum of sensitivity and specificity


def calibrate(
    logits: Scores, labels: Labels, weights: Scores | None = None, aim: Aim | None = None
) -> Decision:
    """Choose slope, intercept and threshold on validation logits.

    Args:
        logits: Of the network, not calibrated.
        labels: What is true.
        weights: How much each counts; None: sick and healthy count alike.
        aim: What is wanted.

    Raises:
        UnusableError: There are no positives, no negatives, or values that are no numbers.
    """
    aim = aim or Aim()
    logits = np.asarray(logits, np.float64)
    _check(logits, labels)
    balanced = np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum())
    shares: Scores = balanced if weights is None else weights / weights.sum()
    slope, intercept = fit_scale(logits, labels, shares, aim.method)
    calibrated = slope * logits + intercept
    if aim.sensitivity is None:
        threshold = best_threshold(calibrated, labels, shares)
    else:
        threshold = sensitive_threshold(calibrated, labels, aim.sensitivity)
    return Decision(slope=slope, intercept=intercept, threshold=float(to_probabilities(threshold)))


def _check(logits: Scores, labels: Labels) -> None:
    for name, count in (("positive", labels.sum()), ("negative", (~labels).sum())):
        if not count:
            raise UnusableError(f"The validation data holds no {name} sample; a threshold needs both.")
    if not np.isfinite(logits).all():
        raise UnusableError("The network's logits on the validation data are not all numbers.")


def fit_scale(
    logits: Scores, labels: Labels, shares: Scores, method: Literal["platt", "temperature"]
) -> tuple[float, float]:
    """Return slope and intercept that minimise the weighted logistic loss; a temperature has no intercept.

    Targets are drawn in by Platt's rule, so that classes that are told apart perfectly have a finite slope.

    Source: Platt, Probabilistic Outputs for Support Vector Machines, 1999; Guo et al., arXiv:1706.04599.
    """
    positives, negatives = int(labels.sum()), int((~labels).sum())
    targets = np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    deviation = float(logits.std()) or 1.0  # the search is the same whatever the network's unit
    unit = logits / deviation

    def loss(theta: Scores) -> tuple[float, Scores]:
        calibrated = theta[0] * unit + theta[1]
        value = float(shares @ (np.logaddexp(0, calibrated) - targets * calibrated))
        error = shares * (to_probabilities(calibrated) - targets)
        return value, np.array([error @ unit, error.sum()])

    free = (None, None) if method == "platt" else (0.0, 0.0)
    bounds = [(FLATTEST, STEEPEST), free]
    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=bounds)
    return float(found.x[0]) / deviation, float(found.x[1])


def sensitive_threshold(scores: Scores, labels: Labels, sensitivity: float) -> float:
    """Return the highest threshold with at least this sensitivity."""
    ranked = -np.sort(-scores)
    least = np.sort(scores[labels])[int(labels.sum()) - max(1, int(np.ceil(sensitivity * labels.sum())))]
    return between(ranked, int(np.flatnonzero(ranked >= least)[-1]))


def study_offset(healthy: Scores, share: float, threshold: float) -> float:
    """Return how far the most suspicious slices of healthy lungs lie above the threshold, as a logit.

    Args:
        healthy: Calibrated logits of healthy people's slices.
        share: Of them: the most suspicious ones, as the study rule takes them.
        threshold: A probability.
    """
    if not healthy.size:
        return 0.0
    highest = np.sort(healthy)[-max(1, round(share * len(healthy))) :]
    return max(0.0, float(highest.mean() - to_logits(threshold)))


def map_scale(class_maps: ClassMaps) -> float:
    """Return the activation that a heatmap shows at full strength.

    Args:
        class_maps: Calibrated ones of sick slices.
    """
    return max(1e-3, round(float(np.percentile(smooth(class_maps), FULL_STRENGTH)), 2))


@dataclass(frozen=True)
class Reliability:
    """What came true of what was predicted; a value a bin of probabilities, empty bins left out."""

    predicted: Scores  # mean probability
    observed: Scores  # share of positives
    counts: NDArray[np.intp]

    @property
    def ece(self) -> float:
        """Expected calibration error. Source: Naeini et al., AAAI 2015."""
        return float(np.abs(self.predicted - self.observed) @ self.counts / self.counts.sum())


def reliability(scores: Scores, labels: Labels, bins: int = BINS) -> Reliability:
    """Sort probabilities into bins of equal width."""
    which = np.minimum((scores * bins).astype(np.intp), bins - 1)
    counts = np.bincount(which, minlength=bins)
    used = counts > 0
    predicted = np.bincount(which, scores, bins)[used] / counts[used]
    observed = np.bincount(which, labels.astype(np.float64), bins)[used] / counts[used]
    return Reliability(predicted, observed, counts[used])


def brier(scores: Scores, labels: Labels) -> float:
    """Return the mean squared distance of probabilities from the truth."""
    return float(((scores - labels) ** 2).mean())
