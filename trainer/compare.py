"""Whether a candidate is worse than the active model: both judged the same slices or studies.

Where each slice or study has a patient of its own, the areas under the ROC curves are compared by DeLong's
test and the verdicts by McNemar's exact one. Both take what is judged as independent. Where patients have
several, they would find differences that are not there, so a bootstrap over patients replaces them.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm, rankdata

from lungnode.errors import UnusableError
from trainer.bootstrap import LEVEL, areas, draw_weights
from trainer.metrics import Labels, Scores, auc

SIGNIFICANT: Final = 0.05  # a difference with a smaller p is none of chance
# A small test set shows hardly anything as significant; so much less AUC is refused all the same.
TOLERANCE: Final = 0.02
SEED: Final = 0  # of the bootstrap: the same test has the same answer
_NORMAL: Final = 1.959964  # standard errors on both sides of a 95 % interval
DELONG: Final = "DeLong"
BOOTSTRAP: Final = "bootstrap over patients"
MCNEMAR: Final = "McNemar"


@dataclass(frozen=True)
class Judged:
    """What one model said of the same slices or studies as the other."""

    scores: Scores
    threshold: float

    @property
    def verdicts(self) -> Labels:
        """Which of them it calls positive."""
        return self.scores >= self.threshold


@dataclass(frozen=True)
class Difference:
    """The candidate's figure minus the active model's, with its 95 % interval."""

    value: float
    low: float
    high: float
    p: float  # two-sided: of a difference as large, were there none
    method: str


@dataclass(frozen=True)
class Discordant:
    """Where one of the two verdicts is right; McNemar's exact test."""

    only_active: int  # the active model alone is right
    only_candidate: int
    p: float


@dataclass(frozen=True)
class Comparison:
    """Two models on one test set."""

    n: int
    positive: int
    groups: int  # patients
    active_auc: float
    candidate_auc: float
    active_acc: float
    candidate_acc: float
    auc: Difference
    acc: Difference
    mcnemar: Discordant

    @property
    def objections(self) -> tuple[str, ...]:
        """Why the candidate is worse, a sentence each; empty when it may be promoted."""
        found = []
        lower = self.auc.value < 0
        if lower and self.auc.p < SIGNIFICANT:
            found.append(
                f"Its AUC is significantly lower: {self.auc.value:+.3f}, p = {self.auc.p:.3f} "
                f"({self.auc.method})."
            )
        elif self.auc.value < -TOLERANCE:
            found.append(f"Its AUC is lower by {-self.auc.value:.3f}, more than {TOLERANCE} is tolerated.")
        if self.acc.value < 0 and self.acc.p < SIGNIFICANT:
            found.append(
                f"Its verdicts are right significantly less often: {self.acc.value:+.3f}, "
                f"p = {self.acc.p:.3f} ({self.acc.method})."
            )
        return tuple(found)

    def record(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        known: dict[str, Any] = _finite(asdict(self))
        return known | {"objections": list(self.objections)}


def _finite(value: Any) -> Any:
    """Put None for what is no number: neither JSON nor a database has NaN."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def compare(labels: Labels, groups: Sequence[str], active: Judged, candidate: Judged) -> Comparison:
    """Compare two models that judged the same slices or studies, in the same order.

    Raises:
        UnusableError: A class is empty: there is no AUC to compare.
    """
    if labels.all() or not labels.any():
        missing = "negative" if labels.any() else "positive"
        raise UnusableError(f"The test set holds nothing {missing}; models cannot be compared on it.")
    right = np.stack([active.verdicts == labels, candidate.verdicts == labels])
    mcnemar = compare_verdicts(right[0], right[1])
    drawn_auc, drawn_acc = _resample(labels, groups, (active.scores, candidate.scores), right)
    independent = len(set(groups)) == len(labels)
    accs = right.mean(axis=1)
    acc = _drawn(float(accs[1] - accs[0]), drawn_acc)
    if independent:
        acc = Difference(acc.value, acc.low, acc.high, mcnemar.p, MCNEMAR)
    aucs = auc(active.scores, labels), auc(candidate.scores, labels)
    return Comparison(
        n=len(labels),
        positive=int(labels.sum()),
        groups=len(set(groups)),
        active_auc=aucs[0],
        candidate_auc=aucs[1],
        active_acc=float(accs[0]),
        candidate_acc=float(accs[1]),
        auc=delong(labels, active.scores, candidate.scores)
        if independent
        else _drawn(aucs[1] - aucs[0], drawn_auc),
        acc=acc,
        mcnemar=mcnemar,
    )


def compare_verdicts(active_right: Labels, candidate_right: Labels) -> Discordant:
    """Test whether two models are right equally often, by the verdicts on which one of them is.

    Source: McNemar, Psychometrika 12, 1947; exact, by the binomial distribution.
    """
    only_active = int((active_right & ~candidate_right).sum())
    only_candidate = int((~active_right & candidate_right).sum())
    total = only_active + only_candidate
    p = float(binomtest(only_active, total, 0.5).pvalue) if total else 1.0
    return Discordant(only_active, only_candidate, p)


def delong(labels: Labels, active: Scores, candidate: Scores) -> Difference:
    """Compare two correlated areas under ROC curves; each class has at least one score.

    Source: DeLong et al., Biometrics 44, 1988; computed by ranks as in Sun and Xu, IEEE Signal Processing
    Letters 21, 2014.
    """
    components = [_components(labels, scores) for scores in (active, candidate)]
    value = float(components[1][0].mean() - components[0][0].mean())
    # Only the variance of the difference is asked for, so the components' differences are all that is needed.
    variance = sum(_variance_of_mean(components[1][side] - components[0][side]) for side in (0, 1))
    error = math.sqrt(variance)
    if math.isnan(error):
        return Difference(value, error, error, 1.0, DELONG)
    if error == 0:
        return Difference(value, value, value, 1.0 if value == 0 else 0.0, DELONG)
    p = 2 * float(norm.sf(abs(value) / error))
    return Difference(value, value - _NORMAL * error, value + _NORMAL * error, p, DELONG)


def _components(labels: Labels, scores: Scores) -> tuple[Scores, Scores]:
    """Return, for each positive score, the share of negative ones below it; and the reverse."""
    positive, negative = scores[labels], scores[~labels]
    ranks = rankdata(scores)
    below = (ranks[labels] - rankdata(positive)) / len(negative)
    above = 1 - (ranks[~labels] - rankdata(negative)) / len(positive)
    return below, above


def _variance_of_mean(values: Scores) -> float:
    """Return it; of a single value nobody knows it: not a number."""
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else math.nan


def _resample(
    labels: Labels, groups: Sequence[str], scores: tuple[Scores, Scores], right: NDArray[np.bool_]
) -> tuple[Scores, Scores]:
    """Draw patients again and again; return the differences of AUC and accuracy, NaN where undefined."""
    gain = right[1].astype(np.float64) - right[0]
    aucs, accs = [], []
    for weights in draw_weights(groups, SEED):
        aucs.append(areas(weights, scores[1], labels) - areas(weights, scores[0], labels))
        accs.append(weights @ gain / weights.sum(axis=1))
    return np.concatenate(aucs), np.concatenate(accs)


def _drawn(value: float, drawn: Scores) -> Difference:
    """Return the percentile interval of drawn differences, and twice the smaller tail as p."""
    known = drawn[~np.isnan(drawn)]
    if not known.size:
        return Difference(value, float("nan"), float("nan"), 1.0, BOOTSTRAP)
    low, high = np.percentile(known, LEVEL)
    # One is added, for a share of none of the draws is no proof of impossibility.
    tails = [(np.count_nonzero(side) + 1) / (known.size + 1) for side in (known <= 0, known >= 0)]
    return Difference(value, float(low), float(high), min(1.0, 2 * min(tails)), BOOTSTRAP)
