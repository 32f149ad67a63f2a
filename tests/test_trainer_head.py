"""The head against scikit-learn's logistic regression, which minimises the same function its own way."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from trainer.folds import grouped_folds
from trainer.head import balanced_weights, fit_head, fit_scale

RANDOM = np.random.default_rng(1)
FEATURES = (RANDOM.standard_normal((300, 6)) * [1, 5, 0.1, 1, 2, 1] + 3).astype(np.float32)
LABELS = FEATURES @ [1.0, 0.1, 5.0, 0, 0, 0] + 2 * RANDOM.standard_normal(300) > 18.5
WEIGHTS = RANDOM.random(300)


def test_a_head_equals_a_logistic_regression_on_standardised_features() -> None:
    decay = 0.05
    deviation = FEATURES.std(axis=0) + 1e-3
    standardised = (FEATURES - FEATURES.mean(axis=0)) / deviation
    share = WEIGHTS / WEIGHTS.sum()
    reference = LogisticRegression(C=1 / decay, tol=1e-8, max_iter=10_000).fit(standardised, LABELS, share)

    head = fit_head(FEATURES, LABELS, WEIGHTS, decay)

    np.testing.assert_allclose(
        head.logits(FEATURES), reference.decision_function(standardised), rtol=1e-2, atol=1e-3
    )


def test_examples_without_weight_have_no_influence() -> None:
    used = WEIGHTS * (np.arange(300) < 200)

    whole, part = (
        fit_head(FEATURES, LABELS, used, 0.05),
        fit_head(FEATURES[:200], LABELS[:200], WEIGHTS[:200], 0.05),
    )

    np.testing.assert_allclose(whole.kernel, part.kernel)


def test_calibration_undoes_a_wrong_scale() -> None:
    logits = RANDOM.standard_normal(20_000) * 2
    labels = RANDOM.random(20_000) < 1 / (1 + np.exp(-logits))

    slope, intercept = fit_scale(5 * logits + 3, labels, np.ones(20_000))

    assert slope == pytest.approx(0.2, rel=0.05)
    assert intercept == pytest.approx(-0.6, abs=0.1)


def test_sources_count_as_told_and_sick_and_healthy_alike() -> None:
    sources = ["a"] * 10 + ["b"] * 90
    labels = np.array([True] * 2 + [False] * 8 + [True] * 60 + [False] * 30)

    weights = balanced_weights(sources, labels, {"a": 1.0, "b": 3.0})

    assert weights[:10].sum() == pytest.approx(0.25)
    assert weights[:2].sum() == pytest.approx(0.125)
    assert weights[10:70].sum() == pytest.approx(weights[70:].sum())


def test_no_patient_is_in_training_and_held_out_and_each_is_held_out_once() -> None:
    groups = [f"patient {number % 23}" for number in range(100)]

    folds = list(grouped_folds(groups, 5, seed=0))

    for train, held_out in folds:
        assert {groups[row] for row in train}.isdisjoint(groups[row] for row in held_out)
    assert sorted(row for _, held_out in folds for row in held_out) == list(range(100))
