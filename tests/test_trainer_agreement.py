import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from trainer.agreement import agreement, scatter

VERDICTS = ("negative", "positive", "undetermined")


@pytest.mark.parametrize("seed", range(3))
def test_kappa_is_cohens(seed: int) -> None:
    random = np.random.default_rng(seed)
    first = random.choice(VERDICTS, 50).tolist()
    second = [
        a if keep else b
        for a, b, keep in zip(first, random.choice(VERDICTS, 50), random.random(50) < 0.6, strict=True)
    ]

    found = agreement(first, second)

    assert found.kappa == pytest.approx(cohen_kappa_score(first, second))
    assert found.share == np.mean([a == b for a, b in zip(first, second, strict=True)])
    assert sum(sum(row.values()) for row in found.table.values()) == 50


def test_kappa_of_two_raters_is_what_a_hand_computes() -> None:
    # Of 4, 3 equal: 0.75. By chance (2/4 * 1/4) + (2/4 * 3/4) = 0.5. Kappa (0.75 - 0.5) / 0.5.
    found = agreement(["p", "p", "n", "n"], ["p", "n", "n", "n"])

    assert (found.share, found.kappa) == (0.75, 0.5)
    assert found.table == {"n": {"n": 2, "p": 0}, "p": {"n": 1, "p": 1}}


def test_models_that_always_say_the_same_have_no_kappa() -> None:
    found = agreement(["n", "n"], ["n", "n"])

    assert found.share == 1
    assert math.isnan(found.kappa)


def test_nothing_agrees_with_nothing() -> None:
    assert agreement([], []).n == 0
    assert scatter(np.zeros(0), np.zeros(0)) is None


def test_probabilities_are_compared_study_by_study() -> None:
    found = scatter(np.array([0.1, 0.2, 0.3]), np.array([0.2, 0.4, 0.6]))

    assert found is not None
    assert found.correlation == pytest.approx(1)
    assert [found.mean_difference, found.largest] == pytest.approx([0.2, 0.3])
    assert found.deviation == pytest.approx(math.sqrt(0.02 / 3))


def test_probabilities_that_never_change_correlate_with_nothing() -> None:
    found = scatter(np.array([0.5, 0.5]), np.array([0.2, 0.4]))

    assert found is not None
    assert math.isnan(found.correlation)
