"""Confidence intervals by a bootstrap over groups: slices of one patient are no independent tests."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.metrics import Labels, Scores

Weights = NDArray[np.float64]  # shape (resamples, n): how often each score was drawn
Drawn = dict[str, NDArray[np.float64]]  # of each metric, a value a resample
Interval = tuple[float, float]

RESAMPLES: Final = 2000
LEVEL: Final = (2.5, 97.5)  # percentiles: a 95 % interval
_CELLS: Final = 2_000_000  # of one chunk of weights, 16 MB: resamples are computed together as memory allows


def intervals(
    scores: Scores,
    labels: Labels,
    groups: Sequence[str],
    threshold: float,
    seed: int,
    resamples: int = RESAMPLES,
) -> dict[str, Interval]:
    """Return a 95 % interval of each metric; NaN where no resample defines it."""
    chunks = [_metrics(w, scores, labels, threshold) for w in draw_weights(groups, seed, resamples)]
    return {name: _percentiles(np.concatenate([chunk[name] for chunk in chunks])) for name in chunks[0]}


def roc_band(
    scores: Scores, labels: Labels, groups: Sequence[str], grid: Scores, seed: int
) -> tuple[Scores, Scores]:
    """Return the lower and upper 95 % bounds of the sensitivity at each false positive rate of `grid`."""
    order = np.argsort(-scores, kind="stable")
    last = _ends(scores[order])
    hits, alarms = labels[order].astype(np.float64), (~labels[order]).astype(np.float64)
    rows = []
    for weights in draw_weights(groups, seed):
        for drawn in weights[:, order]:
            sens, fpr = (drawn * hits).cumsum()[last], (drawn * alarms).cumsum()[last]
            if sens[-1] and fpr[-1]:
                rows.append(np.interp(grid, np.append(0, fpr / fpr[-1]), np.append(0, sens / sens[-1])))
    low, high = np.percentile(np.stack(rows), LEVEL, axis=0)
    return low, high


def draw_weights(groups: Sequence[str], seed: int, resamples: int = RESAMPLES) -> Iterator[Weights]:
    """Yield the weights of the scores in `resamples` draws of the groups, a chunk of draws at a time."""
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    random = np.random.default_rng(seed)
    share = np.full(len(names), 1 / len(names))
    while resamples > 0:
        count = min(resamples, max(1, _CELLS // len(members)))
        yield random.multinomial(len(names), share, size=count).astype(np.float64)[:, members]
        resamples -= count


def _metrics(weights: Weights, scores: Scores, labels: Labels, threshold: float) -> Drawn:
    """Compute the six metrics of each draw at once."""
    said = scores >= threshold
    tp, fp = weights @ (said & labels), weights @ (said & ~labels)
    fn, tn = weights @ (~said & labels), weights @ (~said & ~labels)
    with np.errstate(invalid="ignore"):  # a draw without one of the classes has no such figure
        return {
            "acc": (tp + tn) / (tp + fp + fn + tn),
            "sens": tp / (tp + fn),
            "spe": tn / (tn + fp),
            "iou": tp / (tp + fp + fn),
            "f1": 2 * tp / (2 * tp + fp + fn),
            "auc": areas(weights, scores, labels),
        }


def areas(weights: Weights, scores: Scores, labels: Labels) -> Scores:
    """Return the area of each draw: the share of pairs in the right order, ties counting half."""
    order = np.argsort(scores, kind="stable")
    starts = np.append(0, _ends(scores[order])[:-1] + 1)
    ordered = weights[:, order]
    positive = np.add.reduceat(ordered * labels[order], starts, axis=1)
    negative = np.add.reduceat(ordered * ~labels[order], starts, axis=1)
    below = negative.cumsum(axis=1) - negative / 2
    with np.errstate(invalid="ignore"):
        areas: Scores = (positive * below).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))
    return areas


def _ends(ranked: Scores) -> NDArray[np.intp]:
    """Return the last index of each run of equal scores."""
    return np.flatnonzero(np.append(np.diff(ranked) != 0, True))


def _percentiles(values: Scores) -> Interval:
    known = values[~np.isnan(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.percentile(known, LEVEL)
    return float(low), float(high)
