"""Whether what is measured now is distributed as it was: the population stability index; pure.

PSI = sum over the bins of (now - then) * ln(now / then), both as shares. Below 0.1 nothing has changed worth
mentioning, from 0.25 on it has. Source: Siddiqi, Credit Risk Scorecards, 2006; how large it is by chance
alone: Yurdakul and Naranjo, Journal of Risk Model Validation 14, 2020.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt
from statistics import NormalDist, quantiles
from typing import Final

WATCH: Final = 0.1
CHANGED: Final = 0.25
BINS: Final = 10
_PRIOR: Final = 0.5  # added to each count, so that an empty bin is rare and not impossible
_FEWEST: Final = 2  # values that can be parted


@dataclass(frozen=True)
class Stability:
    """How far two distributions are from each other."""

    value: float
    by_chance: float  # where nothing changed, it is larger once in a hundred times

    @property
    def kind(self) -> str:
        """Class in the style sheet."""
        if self.value >= max(WATCH, self.by_chance):
            return "warn" if self.value < CHANGED else "bad"
        return "idle" if self.by_chance > CHANGED else "good"

    @property
    def words(self) -> str:
        """The same in a word; too few values are those that even a change could not be told from."""
        return {"idle": "too few", "good": "stable", "warn": "watch", "bad": "changed"}[self.kind]


def edges_of(reference: Sequence[float]) -> list[float]:
    """Return what parts a reference into ten bins of equal counts; fewer where many values are the same."""
    if len(reference) < _FEWEST:
        return []
    return sorted(set(quantiles(reference, n=BINS)))


def counts(values: Sequence[float], edges: Sequence[float]) -> list[int]:
    """Count the values in each bin; one on an edge is in the bin above it."""
    found = [0] * (len(edges) + 1)
    for value in values:
        found[bisect_right(edges, value)] += 1
    return found


def index(then: Sequence[int], now: Sequence[int]) -> float:
    """Return the PSI of two counts of the same bins."""
    first, second = (_shares(each) for each in (then, now))
    return sum((b - a) * log(b / a) for a, b in zip(first, second, strict=True))


def _shares(found: Sequence[int]) -> list[float]:
    whole = sum(found) + _PRIOR * len(found)
    return [(count + _PRIOR) / whole for count in found]


def compare(then: Sequence[float], now: Sequence[float]) -> Stability | None:
    """Compare values with a reference; None where one of them is empty or the reference is one value."""
    edges = edges_of(then)
    if not edges or not now:
        return None
    value = index(counts(then, edges), counts(now, edges))
    return Stability(value, _quantile_99(len(edges)) * (1 / len(then) + 1 / len(now)))


def _quantile_99(degrees: int) -> float:
    """Return the 99 % quantile of a chi-squared distribution, which the index follows by chance.

    Source: Wilson and Hilferty, PNAS 17, 1931.
    """
    part = 2 / (9 * degrees)
    return float(degrees * (1 - part + NormalDist().inv_cdf(0.99) * sqrt(part)) ** 3)
