"""The paper's six metrics, with confidence intervals that respect patients."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Labels = NDArray[np.bool_]  # shape (n,)
Scores = NDArray[np.float64]  # shape (n,), probabilities or logits

RESAMPLES: Final = 1000
LEVEL: Final = (2.5, 97.5)  # percentiles: a 95 % interval


@dataclass(frozen=True)
class Metrics:
    """Six figures of one test; NaN where they are undefined."""

    acc: float
    sens: float
    spe: float
    iou: float  # TP / (TP + FP + FN)
    f1: float
    auc: float


def auc(scores: Scores, labels: Labels) -> float:
    """Return the area under the ROC curve by the rank formula; ties count half."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(scores)[labels].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def measure(scores: Scores, labels: Labels, threshold: float) -> Metrics:
    """Compute the six metrics; a score from the threshold on is positive."""
    said = scores >= threshold
    tp, fp = int((said & labels).sum()), int((said & ~labels).sum())
    fn, tn = int((~said & labels).sum()), int((~said & ~labels).sum())
    return Metrics(
        acc=_ratio(tp + tn, len(labels)),
        sens=_ratio(tp, tp + fn),
        spe=_ratio(tn, tn + fp),
        iou=_ratio(tp, tp + fp + fn),
        f1=_ratio(2 * tp, 2 * tp + fp + fn),
        auc=auc(scores, labels),
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def intervals(
    scores: Scores, labels: Labels, groups: Sequence[str], threshold: float, seed: int
) -> dict[str, tuple[float, float]]:
    """Return a 95 % interval of each metric.

    The bootstrap draws whole groups: slices of one patient are no independent tests.
    """
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    rows = [np.flatnonzero(members == number) for number in range(len(names))]
    random = np.random.default_rng(seed)

    def resample() -> dict[str, float]:
        drawn = np.concatenate([rows[number] for number in random.integers(len(rows), size=len(rows))])
        return asdict(measure(scores[drawn], labels[drawn], threshold))

    return _percentiles([resample() for _ in range(RESAMPLES)])


def _percentiles(drawn: Sequence[dict[str, float]]) -> dict[str, tuple[float, float]]:
    found = {}
    for name in drawn[0]:
        values = np.array([each[name] for each in drawn])
        low, high = np.nanpercentile(values, LEVEL) if not np.isnan(values).all() else (np.nan, np.nan)
        found[name] = (float(low), float(high))
    return found


def best_threshold(scores: Scores, labels: Labels, weights: Scores) -> float:
    """Return the score from which the weighted sum of sensitivity and specificity is largest."""
    order = np.argsort(scores)[::-1]
    signed = np.where(labels[order], 1.0, -1.0) * weights[order]
    gain = np.cumsum(signed)
    return float(scores[order][int(gain.argmax())])
