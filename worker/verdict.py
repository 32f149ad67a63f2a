"""From slices to the study: its probability, and whether "negative" may be said at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lungnode.lungs import Coverage
from worker.result import Verdict

GAP: Final = 1.5  # times the spacing: a wider step lacks slices
CERTAIN: Final = 1e-6  # probabilities nearer to 0 or 1 have no usable logit
MAX_MISSING: Final = 0.1  # of the lung's slices; a study's probability rests on as many
MAX_HOLE_MM: Final = 20.0  # a hole wider than this can hide all of a small pneumonia
MAX_CUT: Final = 0.2  # of the largest lung area: more of it on the outermost slice means that lung is cut off


@dataclass(frozen=True)
class Unseen:
    """How much of the lung the analysed slices do not show."""

    missing: int = 0  # slices between the first and the last
    share: float = 0.0  # of all slices that the lung should have
    hole_mm: float = 0.0  # the widest distance without a slice, where some are missing
    cut_off: tuple[str, ...] = ()  # "above", "below"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the absence of findings proves nothing; empty when enough was seen."""
        found = []
        if self.share > MAX_MISSING:
            found.append(f"{self.missing} slices of the lung ({self.share:.0%}) are missing")
        if self.hole_mm > MAX_HOLE_MM:
            found.append(f"{self.hole_mm:.0f} mm of the lung are missing at one place")
        found += [f"the lung is cut off {end}" for end in self.cut_off]
        return tuple(found)


WHOLE: Final = Unseen()


def study_probability(probabilities: NDArray[np.float32], share: float, offset: float) -> float:
    """Return the probability of a study from those of its slices.

    It rests on the most suspicious `share` of the slices, at least one of them: pneumonia often fills a small
    part of the lung, so that a mean over all would dilute it, and the highest slice alone would let one error
    decide. The mean of their logits is lowered by `offset`, for the most suspicious slices of a healthy lung
    are above its average too.
    """
    count = max(1, ceil(share * len(probabilities)))
    clipped = np.sort(probabilities.astype(np.float64)).clip(CERTAIN, 1 - CERTAIN)[-count:]
    logit = float(np.log(clipped / (1 - clipped)).mean()) - offset
    return float(0.5 * (1 + np.tanh(0.5 * logit)))


def unseen(positions_mm: Sequence[float], spacing_mm: float | None, cover: Coverage) -> Unseen:
    """Find what is missing.

    Args:
        positions_mm: Of the analysed slices, from top to bottom.
        spacing_mm: Between slices of the series; None when they say no position.
        cover: Of all slices that could be decoded.
    """
    areas = cover.area_fraction
    cut = MAX_CUT * max(areas, default=0.0)
    ends = (
        ("above", not cover.ends_above and areas[0] > cut),
        ("below", not cover.ends_below and areas[-1] > cut),
    )
    cut_off = tuple(end for end, is_cut in ends if is_cut)
    if not spacing_mm:
        return Unseen(cut_off=cut_off)
    steps = [upper - lower for upper, lower in pairwise(positions_mm)]
    wide = [step for step in steps if step > GAP * spacing_mm]
    missing = sum(round(step / spacing_mm) - 1 for step in wide)
    return Unseen(missing, missing / (missing + len(positions_mm)), max(wide, default=0.0), cut_off)


def judge(probability: float, threshold: float, lacking: Unseen) -> tuple[Verdict, str]:
    """Return the verdict and its reason: "positive" needs a finding, "negative" a whole lung."""
    if probability >= threshold:
        return Verdict.POSITIVE, ""
    if lacking.reasons:
        return Verdict.UNDETERMINED, f"Nothing was found, but {' and '.join(lacking.reasons)}."
    return Verdict.NEGATIVE, ""
