"""The verdict on a study, and whether "negative" may be said at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from lungnode.lungs import Coverage
from worker.result import Verdict

GAP: Final = 1.5  # times the spacing: a wider step lacks slices
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
