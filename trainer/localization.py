"""Whether class maps lie in the lung, and infected slices to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lungnode.heatmap import Color, overlay, upsample
from trainer.evaluate import Evaluation
from trainer.grays import load_gray
from trainer.located import Located
from trainer.metrics import Scores

FOUND: Final = 6  # pictures of what was found
MISSED: Final = 2  # and of what was not


@dataclass(frozen=True)
class Localization:
    """How much of what heatmaps show lies in the lung; NaN where nothing is shown."""

    slices: int  # infected ones
    inside: Scores  # share in the lung mask, of each that shows something
    closed: Scores  # the same in the mask with its bays and holes
    chance: float  # mean share of the network's picture that is lung


def localize(evaluation: Evaluation) -> Localization:
    """Summarise where the class maps of the infected slices lie."""
    told = [each for each in evaluation.located if not np.isnan(each.inside)]
    return Localization(
        len(evaluation.located),
        np.array([each.inside for each in told], np.float64),
        np.array([each.closed for each in told], np.float64),
        float(np.mean([each.lung for each in told])) if told else float("nan"),
    )


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
