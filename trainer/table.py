"""All examples of a training as one table of features, and what is computed on it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungnode.recipe import Recipe
from trainer.examples import Example
from trainer.features import Features
from trainer.folds import grouped_folds
from trainer.head import Head, Values, balanced_weights, fit_head, fit_scale
from trainer.metrics import best_threshold

Rows = NDArray[np.bool_]  # shape (examples,): which of them


@dataclass(frozen=True)
class Table:
    """A row an example."""

    features: Features
    labels: NDArray[np.bool_]
    sources: NDArray[np.str_]
    groups: NDArray[np.str_]
    file_types: NDArray[np.str_]
    genuine: Rows
    validation: Rows

    def weights(self, rows: Rows, source_weights: Mapping[str, float]) -> Values:
        """Return the balanced weights of some rows; the others weigh nothing."""
        weights: Values = np.zeros(len(self.labels))
        weights[rows] = balanced_weights(self.sources[rows].tolist(), self.labels[rows], source_weights)
        return weights

    def fit(self, rows: Rows, recipe: Recipe) -> Head:
        """Fit a head on some rows."""
        weights = self.weights(rows, recipe.source_weights)
        return fit_head(self.features, self.labels, weights, recipe.weight_decay)


def make_table(features: Features, examples: list[Example]) -> Table:
    """Put features and what is known of their examples into one table."""
    samples = [example.sample for example in examples]
    return Table(
        features=features,
        labels=np.array([example.positive for example in examples]),
        sources=np.array([sample.source for sample in samples]),
        groups=np.array([sample.group for sample in samples]),
        file_types=np.array([sample.path.suffix for sample in samples]),
        genuine=np.array([example.genuine for example in examples]),
        validation=np.array([sample.validation for sample in samples]),
    )


def cross_validate(table: Table, recipe: Recipe) -> Values:
    """Return for each row the logit of a head that never saw its patient."""
    logits: Values = np.zeros(len(table.labels))
    for train, held_out in grouped_folds(table.groups.tolist(), recipe.folds, recipe.seed):
        rows = np.zeros(len(table.labels), np.bool_)
        rows[train] = True
        logits[held_out] = table.fit(rows, recipe).logits(table.features[held_out])
    return logits


@dataclass(frozen=True)
class Calibration:
    """What turns logits into probabilities and probabilities into verdicts."""

    slope: float
    intercept: float
    threshold: float  # a probability
    study_offset: float  # a calibrated logit


def calibrate(table: Table, logits: Values, recipe: Recipe, tested: tuple[str, ...]) -> Calibration:
    """Choose scale and threshold on held-out logits of the tested sources, each counting alike.

    The study's offset comes from healthy scans of people of whom one slice each is known: their most
    suspicious share lies as high above the threshold as a healthy study may.
    """
    rows = table.genuine & np.isin(table.sources, tested)
    weights = table.weights(rows, dict.fromkeys(tested, 1.0))
    slope, intercept = fit_scale(logits, table.labels, weights)
    calibrated = slope * logits + intercept
    threshold = best_threshold(calibrated[rows], table.labels[rows], weights[rows])
    healthy = np.sort(calibrated[table.genuine & ~np.isin(table.sources, tested) & ~table.labels])
    highest = healthy[-max(1, round(recipe.suspicious_share * len(healthy))) :]
    offset = float(highest.mean()) - threshold
    return Calibration(slope, intercept, probability(threshold), max(0.0, offset))


def probability(logit: float) -> float:
    """Return the probability of a logit."""
    return float(0.5 * (1 + np.tanh(0.5 * logit)))
