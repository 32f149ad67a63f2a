"""Metrics against scikit-learn, which computes them its own way."""

from dataclasses import asdict

import numpy as np
import pytest
from sklearn import metrics as reference

from lungnode.roc import roc
from trainer.metrics import auc, best_threshold, confusion, measure

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.random(200) < 0.4
SCORES = np.round(0.3 * LABELS + RANDOM.random(200), 1)  # rounded: many ties


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.7, 0.9, 1.2])
def test_the_six_metrics_equal_scikit_learns(threshold: float) -> None:
    said = threshold <= SCORES

    found = asdict(measure(SCORES, LABELS, threshold))

    assert found == pytest.approx(
        {
            "acc": reference.accuracy_score(LABELS, said),
            "sens": reference.recall_score(LABELS, said),
            "spe": reference.recall_score(~LABELS, ~said),
            "iou": reference.jaccard_score(LABELS, said),
            "f1": reference.f1_score(LABELS, said),
            "auc": reference.roc_auc_score(LABELS, SCORES),
        }
    )


def test_the_four_outcomes_are_those_of_scikit_learns_confusion_matrix() -> None:
    found = confusion(SCORES, LABELS, 0.6)

    (tn, fp), (fn, tp) = reference.confusion_matrix(LABELS, SCORES >= 0.6)
    assert asdict(found) == {"tp": tp, "fp": fp, "fn": fn, "tn": tn}


def test_a_metric_that_is_undefined_is_nan() -> None:
    healthy = np.zeros(3, np.bool_)

    found = measure(np.array([0.1, 0.2, 0.9]), healthy, 0.5)

    assert np.isnan([found.sens, found.auc]).all()
    assert found.spe == pytest.approx(2 / 3)


def test_the_area_of_a_perfect_order_is_one_and_of_none_a_half() -> None:
    labels = np.array([False, False, True, True])

    assert auc(np.array([1.0, 2.0, 3.0, 4.0]), labels) == 1.0
    assert auc(np.ones(4), labels) == 0.5


def test_the_roc_curve_is_scikit_learns() -> None:
    found = roc(SCORES, LABELS)

    rate, sensitivity, thresholds = reference.roc_curve(LABELS, SCORES, drop_intermediate=False)
    assert found.false_positive_rate == pytest.approx(rate)
    assert found.sensitivity == pytest.approx(sensitivity)
    assert found.thresholds == pytest.approx(thresholds)
    assert found.area == pytest.approx(reference.roc_auc_score(LABELS, SCORES))


def test_a_curve_that_is_kept_has_both_its_ends_and_few_points() -> None:
    random = np.random.default_rng(0)
    points = roc(random.random(5000), random.random(5000) < 0.5).points()

    assert len(points) == 64
    assert (points[0], points[-1]) == ([0, 0], [1, 1])


def test_the_best_threshold_has_the_largest_sum_of_sensitivity_and_specificity() -> None:
    weights = np.where(LABELS, 0.5 / LABELS.sum(), 0.5 / (~LABELS).sum())
    false_positive, sensitivity, thresholds = reference.roc_curve(LABELS, SCORES)
    largest = (sensitivity - false_positive).max()

    found = measure(SCORES, LABELS, best_threshold(SCORES, LABELS, weights))

    assert found.sens + found.spe - 1 == pytest.approx(largest)
    assert len(thresholds) > 2


def test_the_best_threshold_lies_between_two_scores() -> None:
    labels = np.array([False, False, True, True])
    even = np.full(4, 0.25)

    assert best_threshold(np.array([0.1, 0.2, 0.6, 0.9]), labels, even) == pytest.approx(0.4)
