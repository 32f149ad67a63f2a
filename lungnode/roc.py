"""The ROC curve: what a test finds against what it takes wrongly for a finding, threshold by threshold."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

KEPT: Final = 64  # points of a curve that is stored
DIGITS: Final = 4


@dataclass(frozen=True)
class Curve:
    """An ROC curve from (0, 0) to (1, 1); a point a threshold, the highest first."""

    false_positive_rate: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    thresholds: NDArray[np.float64]  # infinite at the first point, where nothing is positive

    @property
    def area(self) -> float:
        """The area under it: the rank formula's, ties count half."""
        return float(np.trapezoid(self.sensitivity, self.false_positive_rate))

    def points(self) -> list[list[float]]:
        """Return at most 64 points (false positive rate, sensitivity) of it, both ends among them."""
        last = len(self.sensitivity) - 1
        chosen = np.unique(np.linspace(0, last, min(KEPT, last + 1)).round().astype(int))
        both = np.stack([self.false_positive_rate, self.sensitivity], axis=1)[chosen]
        return [[float(x), float(y)] for x, y in both.round(DIGITS)]


def roc(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> Curve:
    """Return the ROC curve; both classes must be there."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits, alarms = labels[order].cumsum()[last], (~labels[order]).cumsum()[last]
    return Curve(
        np.append(0.0, alarms / alarms[-1]),
        np.append(0.0, hits / hits[-1]),
        np.append(np.inf, scores[order][last]),
    )
