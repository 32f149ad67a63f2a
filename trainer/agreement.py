"""How far two models agree on the studies that both judged, whatever is true of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.metrics import Scores


@dataclass(frozen=True)
class Agreement:
    """Of verdicts."""

    n: int
    share: float  # of equal verdicts; NaN without any
    kappa: float  # Cohen's: 1 for always, 0 for as often as by chance; NaN where chance alone agrees always
    table: Mapping[str, Mapping[str, int]]  # by the first model's verdict, then by the second's


@dataclass(frozen=True)
class Scatter:
    """Of the second model's probabilities against the first's."""

    correlation: float  # Pearson's; NaN where one of them never changes
    mean_difference: float  # the second's minus the first's
    deviation: float  # of the differences
    largest: float  # difference, without its sign


def agreement(first: Sequence[str], second: Sequence[str]) -> Agreement:
    """Compare verdicts.

    Source: Cohen, Educational and Psychological Measurement 20, 1960.
    """
    n = len(first)
    if not n:
        return Agreement(0, float("nan"), float("nan"), {})
    share = sum(a == b for a, b in zip(first, second, strict=True)) / n
    ones, others = Counter(first), Counter(second)
    chance = sum(count * others[verdict] for verdict, count in ones.items()) / n**2
    kappa = (share - chance) / (1 - chance) if chance < 1 else float("nan")
    pairs = Counter(zip(first, second, strict=True))
    verdicts = sorted(ones | others)
    return Agreement(n, share, kappa, {a: {b: pairs[a, b] for b in verdicts} for a in verdicts})


def scatter(first: Scores, second: Scores) -> Scatter | None:
    """Compare probabilities; None without any."""
    if not len(first):
        return None
    difference = second - first
    changes = len(first) > 1 and first.std() > 0 and second.std() > 0
    return Scatter(
        float(np.corrcoef(first, second)[0, 1]) if changes else float("nan"),
        float(difference.mean()),
        float(difference.std()),
        float(np.abs(difference).max()),
    )
