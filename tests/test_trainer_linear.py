"""The linear head against scikit-learn, whose logistic regression minimises the same function its own way."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from trainer.linear import fit_linear

RANDOM = np.random.default_rng(1)
FEATURES = (RANDOM.standard_normal((300, 6)) * [1, 5, 0.1, 1, 2, 1] + 3).astype(np.float32)
LABELS = FEATURES @ [1.0, 0.1, 5.0, 0, 0, 0] + 2 * RANDOM.standard_normal(300) > 18.5
WEIGHTS = RANDOM.random(300)


def test_it_equals_a_logistic_regression_on_standardised_features() -> None:
    decay = 0.05
    deviation = FEATURES.std(axis=0) + 1e-3
    standardised = (FEATURES - FEATURES.mean(axis=0)) / deviation
    share = WEIGHTS / WEIGHTS.sum()
    reference = LogisticRegression(C=1 / decay, tol=1e-8, max_iter=10_000).fit(standardised, LABELS, share)

    fitted = fit_linear(FEATURES, LABELS, WEIGHTS, decay)

    np.testing.assert_allclose(
        fitted(FEATURES), reference.decision_function(standardised), rtol=1e-2, atol=1e-3
    )


def test_rows_without_weight_have_no_influence() -> None:
    used = WEIGHTS * (np.arange(300) < 200)

    whole = fit_linear(FEATURES, LABELS, used, 0.05)
    part = fit_linear(FEATURES[:200], LABELS[:200], WEIGHTS[:200], 0.05)

    np.testing.assert_allclose(whole.kernel, part.kernel)


def test_a_free_feature_is_not_drawn_to_zero() -> None:
    plain = fit_linear(FEATURES, LABELS, WEIGHTS, 100.0)
    last_free = fit_linear(FEATURES[:, [1, 2, 3, 4, 5, 0]], LABELS, WEIGHTS, 100.0, free=1)
    alone = fit_linear(FEATURES[:, :1], LABELS, WEIGHTS, 0.0)

    assert abs(plain.kernel[0]) < 0.01
    assert np.isclose(last_free.kernel[-1], alone.kernel[0], rtol=0.05)
