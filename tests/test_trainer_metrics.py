"""Metrics against scikit-learn, which computes them its own way."""

from dataclasses import asdict

import numpy as np
import pytest
from sklearn import metrics as reference

from trainer.bootstrap import intervals
from trainer.metrics import auc, best_threshold, measure

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.random(200) < 0.4
SCORES = np.round(0.3 * LABELS + RANDOM.random(200), 1)  # rounded: many ties


def test_the_six_metrics_equal_scikit_learns() -> None:
    said = SCORES >= 0.7

    found = asdict(measure(SCORES, LABELS, 0.7))

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


def test_a_metric_that_is_undefined_is_nan() -> None:
    healthy = np.zeros(3, np.bool_)

    found = measure(np.array([0.1, 0.2, 0.9]), healthy, 0.5)

    assert np.isnan([found.sens, found.auc]).all()
    assert found.spe == pytest.approx(2 / 3)


def test_the_area_of_a_perfect_order_is_one_and_of_none_a_half() -> None:
    labels = np.array([False, False, True, True])

    assert auc(np.array([1.0, 2.0, 3.0, 4.0]), labels) == 1.0
    assert auc(np.ones(4), labels) == 0.5


def test_few_patients_with_many_slices_have_wide_intervals() -> None:
    alone = intervals(SCORES, LABELS, [str(row) for row in range(200)], 0.7, seed=0)
    of_ten = intervals(SCORES, LABELS, [f"{label}{row % 5}" for row, label in enumerate(LABELS)], 0.7, seed=0)

    assert alone["auc"][0] < auc(SCORES, LABELS) < alone["auc"][1]
    assert of_ten.keys() == alone.keys()


def test_the_best_threshold_has_the_largest_sum_of_sensitivity_and_specificity() -> None:
    weights = np.where(LABELS, 0.5 / LABELS.sum(), 0.5 / (~LABELS).sum())
    false_positive, sensitivity, thresholds = reference.roc_curve(LABELS, SCORES)
    largest = (sensitivity - false_positive).max()

    found = measure(SCORES, LABELS, best_threshold(SCORES, LABELS, weights))

    assert found.sens + found.spe - 1 == pytest.approx(largest)
    assert len(thresholds) > 2
