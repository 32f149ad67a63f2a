"""The references are computed here by definition, pair by pair and term by term, or by hand."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from lungnode.errors import UnusableError
from trainer.compare import BOOTSTRAP, DELONG, MCNEMAR, Judged, compare, compare_verdicts, delong

Array = NDArray[np.float64]


def delong_by_definition(labels: NDArray[np.bool_], first: Array, second: Array) -> tuple[float, float]:
    """DeLong's difference and its variance by the kernel over all pairs. Source: Biometrics 44, 1988."""

    def kernel(x: float, y: float) -> float:
        return 1.0 if y < x else 0.5 if y == x else 0.0

    parts = []
    for scores in (first, second):
        xs, ys = scores[labels], scores[~labels]
        pairs = np.array([[kernel(x, y) for y in ys] for x in xs])
        parts.append((pairs.mean(), pairs.mean(axis=1), pairs.mean(axis=0)))
    covariances = [np.cov(parts[0][side], parts[1][side]) for side in (1, 2)]
    sizes = int(labels.sum()), int((~labels).sum())
    total = covariances[0] / sizes[0] + covariances[1] / sizes[1]
    return parts[1][0] - parts[0][0], total[0, 0] + total[1, 1] - 2 * total[0, 1]


def drawn(seed: int, n: int = 60, digits: int = 1) -> tuple[NDArray[np.bool_], Array, Array]:
    """Labels and two correlated scores with many ties."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 3 == 0
    shared = random.normal(size=n) + labels
    first, second = (shared + random.normal(size=n) * scale for scale in (0.5, 1.0))
    return labels, first.round(digits), second.round(digits)


@pytest.mark.parametrize("seed", range(5))
def test_delong_equals_its_definition(seed: int) -> None:
    labels, first, second = drawn(seed)
    difference, variance = delong_by_definition(labels, first, second)

    found = delong(labels, first, second)

    assert found.value == pytest.approx(difference)
    assert found.value == pytest.approx(roc_auc_score(labels, second) - roc_auc_score(labels, first))
    assert found.high - found.low == pytest.approx(2 * 1.959964 * math.sqrt(variance))
    assert found.p == pytest.approx(math.erfc(abs(difference) / math.sqrt(variance) / math.sqrt(2)))


def test_delong_of_four_scores_is_what_a_hand_computes() -> None:
    # Positives 3, 1 and negatives 2, 0: AUC 3/4. Reversed negatives below all: AUC 1. The differences of the
    # components are 0, 1/2 (positives) and 1/2, 0 (negatives): variance 2 * (1/8) / 2 = 1/8.
    labels = np.array([True, True, False, False])

    found = delong(labels, np.array([3.0, 1, 2, 0]), np.array([3.0, 1, 0, 0]))

    assert found.value == 0.25
    assert found.p == pytest.approx(math.erfc(0.25 / math.sqrt(1 / 8) / math.sqrt(2)))


def test_a_model_does_not_differ_from_itself() -> None:
    labels, scores, _ = drawn(0)

    found = compare(labels, [str(i) for i in range(60)], Judged(scores, 0.5), Judged(scores, 0.5))

    assert (found.auc.value, found.auc.p, found.mcnemar.p, found.acc.p) == (0, 1, 1, 1)
    assert found.objections == ()


@pytest.mark.parametrize(
    ("only_active", "only_candidate", "p"),
    # By hand: twice the tail of the binomial distribution with 1/2, at most 1.
    [(1, 9, 2 * (1 + 10) / 2**10), (9, 1, 2 * (1 + 10) / 2**10), (0, 5, 2 / 2**5), (3, 3, 1.0), (0, 0, 1.0)],
)
def test_mcnemar_is_the_exact_binomial_test(only_active: int, only_candidate: int, p: float) -> None:
    active = np.array([True] * (only_active + 4) + [False] * only_candidate)
    candidate = np.array([False] * only_active + [True] * (4 + only_candidate))

    found = compare_verdicts(active, candidate)

    assert (found.only_active, found.only_candidate) == (only_active, only_candidate)
    assert found.p == pytest.approx(p)


def test_of_a_class_with_one_score_nobody_knows_how_sure_delong_is() -> None:
    labels = np.array([True, False, False, False])

    found = delong(labels, np.array([3.0, 1, 2, 0]), np.array([0.0, 1, 2, 3]))

    assert (found.value, found.p) == (-1.0, 1.0)
    assert np.isnan([found.low, found.high]).all()


def test_patients_with_one_study_are_compared_by_delong_and_mcnemar_others_by_a_bootstrap() -> None:
    labels, first, second = drawn(1)
    alone, shared = [f"p{i}" for i in range(60)], [f"p{i // 4}" for i in range(60)]

    independent = compare(labels, alone, Judged(first, 0.5), Judged(second, 0.5))
    grouped = compare(labels, shared, Judged(first, 0.5), Judged(second, 0.5))

    assert (independent.auc.method, independent.acc.method) == (DELONG, MCNEMAR)
    assert (grouped.auc.method, grouped.acc.method, grouped.groups) == (BOOTSTRAP, BOOTSTRAP, 15)
    assert grouped.auc.value == pytest.approx(independent.auc.value)


def test_slices_that_were_copied_prove_no_more_than_before() -> None:
    """Ten copies of each slice make DeLong surer, and a bootstrap over patients no surer."""
    labels, first, second = drawn(2)
    copies = [str(number // 10) for number in range(600)]
    ten = np.repeat(labels, 10), Judged(first.repeat(10), 0.5), Judged(second.repeat(10), 0.5)

    once = delong(labels, first, second)
    fooled = delong(ten[0], ten[1].scores, ten[2].scores)
    grouped = compare(ten[0], copies, ten[1], ten[2]).auc

    assert fooled.high - fooled.low == pytest.approx((once.high - once.low) / math.sqrt(10), rel=0.05)
    assert grouped.high - grouped.low == pytest.approx(once.high - once.low, rel=0.2)


def separated(n: int, errors: int) -> Array:
    """Scores of alternating labels, of which `errors` positives are as low as negatives."""
    scores = np.where(np.arange(n) % 2 == 0, 0.9, 0.1) + np.linspace(0, 0.05, n)
    scores[: 2 * errors : 2] -= 0.85
    return scores


@pytest.mark.parametrize(
    ("n", "errors", "threshold", "said"),
    [
        (200, 30, 0.5, ["significantly lower", "significantly less often"]),
        (20, 2, 0.5, ["lower by"]),
        (200, 0, 0.0, ["significantly less often"]),  # the same order, and everything is called positive
        (200, 0, 0.5, []),
    ],
)
def test_a_worse_candidate_is_objected_to(n: int, errors: int, threshold: float, said: list[str]) -> None:
    labels = np.arange(n) % 2 == 0
    groups = [str(number) for number in range(n)]

    found = compare(
        labels, groups, Judged(separated(n, 0), 0.5), Judged(separated(n, errors), threshold)
    ).objections

    assert len(found) == len(said)
    assert all(words in sentence for words, sentence in zip(said, found, strict=True))


def test_a_better_candidate_is_not_objected_to() -> None:
    labels = np.arange(200) % 2 == 0
    groups = [str(number) for number in range(200)]

    found = compare(labels, groups, Judged(separated(200, 30), 0.5), Judged(separated(200, 0), 0.5))

    assert found.objections == ()
    assert found.auc.value > 0
    assert found.auc.p < 0.05


@pytest.mark.parametrize(("label", "missing"), [(True, "negative"), (False, "positive")])
def test_one_class_alone_compares_nothing(label: bool, missing: str) -> None:
    labels, scores = np.full(4, label), Judged(np.arange(4.0), 0.5)

    with pytest.raises(UnusableError, match=f"holds nothing {missing}"):
        compare(labels, list("abcd"), scores, scores)
