"""Whether class maps lie in the lung, and infected slices to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lungnode.heatmap import Color, overlay, upsample
from trainer.evaluate import Evaluation, Located
from trainer.grays import load_gray
from trainer.metrics import Scores

FOUND: Final = 6  # pictures of what was found
MISSED: Final = 2  # and of what was not


@dataclass(frozen=True)
class Localization:
    """How much of what heatmaps show lies in the lung; NaN where nothing is shown."""

    slices: int  # infected ones
    inside: Scores  # share of each that shows something
    chance: float  # mean share of the network's picture that is lung

    @property
    def mean(self) -> float:
        """Mean share."""
        return float(self.inside.mean()) if self.inside.size else float("nan")

    @property
    def median(self) -> float:
        """Median share."""
        return float(np.median(self.inside)) if self.inside.size else float("nan")

    @property
    def mostly(self) -> float:
        """Share of the slices that have more than half of it inside."""
        return float((self.inside > 0.5).mean()) if self.inside.size else float("nan")  # noqa: PLR2004


def localize(evaluation: Evaluation) -> Localization:
    """Summarise where the class maps of the infected slices lie."""
    inside = np.array([each.inside for each in evaluation.located], np.float64)
    lung = np.array([each.lung for each in evaluation.located], np.float64)
    chance = float(lung.mean()) if lung.size else float("nan")
    return Localization(len(inside), inside[~np.isnan(inside)], chance)


@dataclass(frozen=True)
class Picture:
    """An infected slice as it is, and with its heatmap."""

    plain: Color
    shown: Color
    number: int  # of the sample, counted from 1
    probability: float
    found: bool
    inside: float


def pictures(evaluation: Evaluation) -> list[Picture]:
    """Draw the most suspicious infected slice of each of several patients, and the least suspicious ones.

    Raises:
        UnusableError: A file can no longer be read as a slice.
        UnavailableError: A file is away.
    """
    scores = evaluation.slices.scores
    ranked = sorted(evaluation.located, key=lambda each: -scores[each.index])
    threshold = evaluation.info.threshold
    found = _one_a_patient(evaluation, [each for each in ranked if scores[each.index] >= threshold])[:FOUND]
    missed = [each for each in reversed(ranked) if scores[each.index] < threshold]
    missed = _one_a_patient(evaluation, missed)[:MISSED]
    return [_draw(evaluation, each) for each in (*found, *missed)]


def _one_a_patient(evaluation: Evaluation, located: Sequence[Located]) -> list[Located]:
    first: dict[str, Located] = {}
    for each in located:
        first.setdefault(evaluation.samples[each.index].group, each)
    return list(first.values())


def _draw(evaluation: Evaluation, each: Located) -> Picture:
    gray = load_gray(evaluation.samples[each.index])
    activation = upsample(each.class_map, each.box, *gray.shape)
    score = float(evaluation.slices.scores[each.index])
    plain = np.repeat(gray[:, :, np.newaxis], 3, axis=2)
    found = score >= evaluation.info.threshold
    return Picture(plain, overlay(gray, activation), each.index + 1, score, found, each.inside)
