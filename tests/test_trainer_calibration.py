"""Calibration against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_curve

from lungnode.errors import UnusableError
from lungnode.logits import to_probabilities
from trainer.calibration import (
    Aim,
    brier,
    calibrate,
    fit_scale,
    map_scale,
    reliability,
    sensitive_threshold,
    study_offset,
)
from trainer.metrics import Labels, Scores, measure

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.random(300) < 0.4
LOGITS = 4 * LABELS - 1 + 3 * RANDOM.standard_normal(300)
EVEN = np.full(300, 1 / 300)


def platt_targets(labels: Labels) -> Scores:
    positive, negative = int(labels.sum()), int((~labels).sum())
    targets: Scores = np.where(labels, (positive + 1) / (positive + 2), 1 / (negative + 2))
    return targets


def test_platts_scaling_is_scikit_learns_logistic_regression_on_his_targets() -> None:
    # A sample with a soft target is two samples, one of each class, with the target's shares as weights.
    targets = platt_targets(LABELS)
    features = np.concatenate([LOGITS, LOGITS])[:, np.newaxis]
    doubled, shares = np.repeat([1, 0], 300), np.concatenate([targets, 1 - targets])
    fitted = LogisticRegression(C=np.inf, tol=1e-10).fit(features, doubled, shares)

    slope, intercept = fit_scale(LOGITS, LABELS, EVEN, "platt")

    assert slope == pytest.approx(fitted.coef_[0, 0], rel=1e-3)
    assert intercept == pytest.approx(fitted.intercept_[0], rel=1e-3)


def test_a_temperature_is_the_best_slope_without_an_intercept() -> None:
    targets = platt_targets(LABELS)

    def loss(slope: float) -> float:
        return float((np.logaddexp(0, slope * LOGITS) - targets * slope * LOGITS).mean())

    slope, intercept = fit_scale(LOGITS, LABELS, EVEN, "temperature")

    assert intercept == 0
    assert slope == pytest.approx(min(np.linspace(0.05, 3, 2951), key=loss), abs=1e-3)


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e4])
def test_calibration_does_not_depend_on_the_networks_unit(unit: float) -> None:
    slope, intercept = fit_scale(LOGITS, LABELS, EVEN, "platt")

    found = fit_scale(LOGITS * unit, LABELS, EVEN, "platt")

    assert found[0] == pytest.approx(slope / unit)
    assert found[1] == pytest.approx(intercept)


def test_calibrated_probabilities_come_true() -> None:
    raw = to_probabilities(LOGITS * 10)

    decision = calibrate(LOGITS * 10, LABELS, EVEN)

    calibrated = to_probabilities(decision.slope * LOGITS * 10 + decision.intercept)
    assert log_loss(LABELS, calibrated) < log_loss(LABELS, raw.clip(1e-15, 1 - 1e-15))
    assert reliability(calibrated, LABELS).ece < reliability(raw, LABELS).ece


def test_the_threshold_has_the_largest_youden_index_of_all() -> None:
    decision = calibrate(LOGITS, LABELS)

    scores = to_probabilities(decision.slope * LOGITS + decision.intercept)
    found = measure(scores, LABELS, decision.threshold)
    false_positive, sensitivity, _ = roc_curve(LABELS, scores)
    assert found.sens + found.spe - 1 == pytest.approx((sensitivity - false_positive).max())


@pytest.mark.parametrize("wanted", [0.5, 0.9, 0.95, 1.0])
def test_a_wanted_sensitivity_is_reached_and_a_higher_threshold_would_miss_it(wanted: float) -> None:
    decision = calibrate(LOGITS, LABELS, aim=Aim(sensitivity=wanted))

    scores = to_probabilities(decision.slope * LOGITS + decision.intercept)
    assert measure(scores, LABELS, decision.threshold).sens >= wanted
    next_higher = np.sort(scores[LABELS])[np.sort(scores[LABELS]) > decision.threshold][0] + 1e-9
    assert measure(scores, LABELS, next_higher).sens < wanted


def test_tied_scores_are_said_alike() -> None:
    labels = np.array([True, True, False, True])

    assert sensitive_threshold(np.array([0.9, 0.5, 0.5, 0.5]), labels, 0.6) == 0.5


def test_classes_that_are_told_apart_perfectly_have_a_finite_slope() -> None:
    labels = np.array([False] * 10 + [True] * 10)

    decision = calibrate(np.where(labels, 5.0, -5.0), labels)

    assert 0 < decision.slope <= 20  # 100 a standard deviation, which is 5
    assert 0 < decision.threshold < 1


def test_a_ranking_that_is_upside_down_becomes_flat_and_not_turned_over() -> None:
    decision = calibrate(-LOGITS, LABELS)

    assert decision.slope == pytest.approx(0.001 / LOGITS.std())


@pytest.mark.parametrize(("labels", "word"), [([True, True], "negative"), ([False, False], "positive")])
def test_a_class_that_is_missing_is_named(labels: list[bool], word: str) -> None:
    with pytest.raises(UnusableError, match=f"no {word} sample"):
        calibrate(np.array([0.0, 1.0]), np.array(labels))


def test_logits_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(UnusableError, match="not all numbers"):
        calibrate(np.array([0.0, np.nan]), np.array([True, False]))


def test_the_study_offset_is_how_far_the_worst_healthy_slices_lie_above_the_threshold() -> None:
    healthy = np.arange(-9.0, 11.0)  # the worst tenth of twenty: 9 and 10

    assert study_offset(healthy, 0.1, 0.5) == 9.5
    assert study_offset(healthy, 0.1, 1 / (1 + np.exp(-2.0))) == pytest.approx(7.5)
    assert study_offset(healthy - 100, 0.1, 0.5) == 0
    assert study_offset(np.zeros(0), 0.1, 0.5) == 0


def test_the_heatmaps_scale_is_what_one_place_in_a_hundred_exceeds() -> None:
    maps = np.zeros((1, 30, 30), np.float32)
    maps[0, :6, :6] = 2.0  # more than one in a hundred, also after smoothing

    assert map_scale(maps) == 2.0
    assert map_scale(np.full((1, 5, 5), -3, np.float32)) == 0.001


def test_the_calibration_error_is_the_mean_distance_weighted_by_the_bins() -> None:
    scores = np.array([0.05, 0.05, 0.95, 0.95, 0.95, 1.0])
    labels = np.array([False, True, True, True, True, False])

    found = reliability(scores, labels)

    assert found.predicted == pytest.approx([0.05, (3 * 0.95 + 1.0) / 4])
    assert found.observed == pytest.approx([0.5, 0.75])
    assert found.ece == pytest.approx((2 * 0.45 + 4 * (0.9625 - 0.75)) / 6)


def test_the_brier_score_is_scikit_learns() -> None:
    scores = to_probabilities(LOGITS)

    assert brier(scores, LABELS) == pytest.approx(brier_score_loss(LABELS, scores))
