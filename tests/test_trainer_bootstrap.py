"""Intervals against a plain loop over the same draws, with scikit-learn's metrics."""

import numpy as np
import pytest
from sklearn import metrics as reference

from lungnode.roc import roc
from trainer.bootstrap import draw_weights, intervals, roc_band
from trainer.metrics import auc

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.random(120) < 0.4
SCORES = np.round(0.3 * LABELS + RANDOM.random(120), 1)  # rounded: many ties
GROUPS = [f"patient {row // 3}" for row in range(120)]
ALONE = [str(row) for row in range(120)]


def test_intervals_are_percentiles_over_draws_of_whole_groups() -> None:
    drawn = [np.repeat(np.arange(120), weights.astype(int)) for weights in next(draw_weights(GROUPS, 7, 200))]
    areas = [reference.roc_auc_score(LABELS[rows], SCORES[rows]) for rows in drawn]
    accuracies = [reference.accuracy_score(LABELS[rows], SCORES[rows] >= 0.7) for rows in drawn]

    found = intervals(SCORES, LABELS, GROUPS, 0.7, seed=7, resamples=200)

    assert found["auc"] == pytest.approx(np.percentile(areas, (2.5, 97.5)))
    assert found["acc"] == pytest.approx(np.percentile(accuracies, (2.5, 97.5)))


def test_a_draw_takes_each_patient_whole_and_as_many_patients_as_there_are() -> None:
    weights = np.concatenate(list(draw_weights(GROUPS, 0, resamples=50)))

    assert weights.shape == (50, 120)
    assert (weights[:, ::3] == weights[:, 1::3]).all()
    assert (weights[:, ::3].sum(axis=1) == 40).all()


def test_few_patients_with_many_slices_have_wide_intervals() -> None:
    few = [f"{label}{row % 4}" for row, label in enumerate(LABELS)]

    alone, of_few = (intervals(SCORES, LABELS, groups, 0.7, seed=0) for groups in (ALONE, few))

    assert alone["auc"][0] < auc(SCORES, LABELS) < alone["auc"][1]
    assert of_few.keys() == alone.keys()


def test_the_same_seed_has_the_same_intervals() -> None:
    first, second = (intervals(SCORES, LABELS, GROUPS, 0.7, seed=3) for _ in range(2))

    assert first == second


def test_what_one_class_does_not_define_has_no_interval() -> None:
    found = intervals(SCORES, np.zeros(120, np.bool_), GROUPS, 0.7, seed=0)

    assert np.isnan([*found["sens"], *found["auc"]]).all()
    assert found["spe"][0] < (SCORES < 0.7).mean() < found["spe"][1]


def test_the_band_lies_around_the_roc_curve() -> None:
    grid = np.linspace(0, 1, 11)

    low, high = roc_band(SCORES, LABELS, ALONE, grid, seed=0)

    curve = roc(SCORES, LABELS)
    sensitivity = np.interp(grid, curve.false_positive_rate, curve.sensitivity)
    assert (low <= sensitivity).all()
    assert (sensitivity <= high).all()
    assert (high[1:-1] > low[1:-1]).any()


def test_many_slices_are_drawn_in_parts_that_fit_into_memory() -> None:
    many = [str(row) for row in range(3000)]

    chunks = list(draw_weights(many, 0, resamples=2000))

    assert len(chunks) > 1
    assert sum(len(chunk) for chunk in chunks) == 2000
