"""The paper's six metrics, and the threshold with the largest Youden index."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Labels = NDArray[np.bool_]  # shape (n,)
Scores = NDArray[np.float64]  # shape (n,), probabilities or logits


@dataclass(frozen=True)
class Metrics:
    """Six figures of one test; NaN where they are undefined."""

    acc: float
    sens: float
    spe: float
    iou: float  # TP / (TP + FP + FN)
    f1: float
    auc: float


@dataclass(frozen=True)
class Confusion:
    """How many of what was said to what."""

    tp: int
    fp: int
    fn: int
    tn: int


def auc(scores: Scores, labels: Labels) -> float:
    """Return the area under the ROC curve by the rank formula; ties count half."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(scores)[labels].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def confusion(scores: Scores, labels: Labels, threshold: float) -> Confusion:
    """Count the four outcomes; a score from the threshold on is positive."""
    said = scores >= threshold
    return Confusion(
        tp=int((said & labels).sum()),
        fp=int((said & ~labels).sum()),
        fn=int((~said & labels).sum()),
        tn=int((~said & ~labels).sum()),
    )


def measure(scores: Scores, labels: Labels, threshold: float) -> Metrics:
    """Compute the six metrics; a score from the threshold on is positive.

    Source: the paper, equations 1 to 6.
    """
    of = confusion(scores, labels, threshold)
    return Metrics(
        acc=_ratio(of.tp + of.tn, len(labels)),
        sens=_ratio(of.tp, of.tp + of.fn),
        spe=_ratio(of.tn, of.tn + of.fp),
        iou=_ratio(of.tp, of.tp + of.fp + of.fn),
        f1=_ratio(2 * of.tp, 2 * of.tp + of.fp + of.fn),
        auc=auc(scores, labels),
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def best_threshold(scores: Scores, labels: Labels, weights: Scores) -> float:
    """Return a threshold with the largest weighted sum of sensitivity and specificity.

    It lies half way between two scores, so that rounding elsewhere moves no score across it.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    gain = np.cumsum(np.where(labels[order], 1.0, -1.0) * weights[order])
    last = np.flatnonzero(np.append(np.diff(ranked) != 0, True))
    return between(ranked, int(last[gain[last].argmax()]))


def between(ranked: Scores, index: int) -> float:
    """Return a threshold half way between the score at `index` and the next lower one; highest first."""
    return float(ranked[index : index + 2].mean())
