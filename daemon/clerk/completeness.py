"""Is a study complete? A pure judgement of what is known of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

VOLUME: Final = 3  # slices of one series from which on increments can be compared
_SAME_PLACE_MM: Final = 0.01
_PARALLEL: Final = 3  # decimals of the direction cosines within which slices are parallel
_GAP: Final = 1.5  # times the increment around it: between one slice and a missing one
_AROUND: Final = 5  # increments on both sides that say what is usual there


@dataclass(frozen=True)
class Slice:
    """What completeness needs of one instance."""

    series_instance_uid: str
    acquisition_number: int | None = None
    images_in_acquisition: int | None = None
    position: Sequence[float] | None = None
    orientation: Sequence[float] | None = None


@dataclass(frozen=True)
class Evidence:
    """What a study's instances say about its completeness."""

    present: int = 0  # instances of acquisitions whose count is known
    expected: int | None = None  # their count after Images in Acquisition; None when it is not known of all
    gaps: int = 0
    has_positions: bool = False

    @property
    def is_proven(self) -> bool:
        """Whether every acquisition is whole."""
        return self.expected is not None and self.present == self.expected

    @property
    def is_lacking(self) -> bool:
        """Whether something is known to be missing."""
        return self.gaps > 0 or (self.expected is not None and self.present < self.expected)


@dataclass(frozen=True)
class Quiet:
    """For how long nothing may have come."""

    normal: timedelta
    lacking: timedelta  # when something is known to be missing


@dataclass(frozen=True)
class Judgement:
    """What follows: complete with a note, or wait."""

    is_complete: bool
    note: str = ""
    wait_until: datetime | None = None  # None while an association that carried the study is open


def judge(
    evidence: Evidence, *, is_open: bool, changed_at: datetime, now: datetime, quiet: Quiet
) -> Judgement:
    """Say whether a study is complete.

    A proven count needs no quiet period. No gap proves nothing, for every beginning of a study has none: a
    gap only lengthens the wait.
    """
    if is_open:
        return Judgement(is_complete=False)
    if evidence.is_proven and not evidence.gaps:
        return Judgement(is_complete=True, note=note_of(evidence))
    ready_at = changed_at + (quiet.lacking if evidence.is_lacking else quiet.normal)
    if now < ready_at:
        return Judgement(is_complete=False, wait_until=ready_at)
    return Judgement(is_complete=True, note=note_of(evidence))


def note_of(evidence: Evidence) -> str:
    """Return what was known, in the words that the report repeats."""
    gaps = f"{evidence.gaps} gap{'' if evidence.gaps == 1 else 's'}" if evidence.gaps else ""
    count = f"{evidence.present} of {evidence.expected}" if evidence.expected is not None else ""
    if evidence.is_lacking:
        word = "complete" if evidence.is_proven else "incomplete"
        return f"{word}: {', '.join(part for part in (count, gaps) if part)}"
    if evidence.is_proven:
        return f"complete: {count}"
    return "quiet: no gaps" if evidence.has_positions else "quiet: no positions to check"


def evidence_of(slices: Iterable[Slice]) -> Evidence:
    """Sum up what a study's instances say; series of fewer than three slices (localizers) say nothing."""
    ordered = sorted(slices, key=_series)
    volumes = [list(group) for _, group in groupby(ordered, key=_series)]
    volumes = [volume for volume in volumes if len(volume) >= VOLUME]
    present, expected = _count(volumes)
    positions = [places for volume in volumes for places in _stacks(volume)]
    return Evidence(
        present=present,
        expected=expected,
        gaps=sum(count_gaps(places) for places in positions),
        has_positions=bool(positions),
    )


def _series(each: Slice) -> str:
    return each.series_instance_uid


def _count(volumes: Iterable[Sequence[Slice]]) -> tuple[int, int | None]:
    """Return how many slices are present and expected; None when not every acquisition tells."""
    present = expected = 0
    for volume in volumes:
        for acquisition in {each.acquisition_number for each in volume}:
            members = [each for each in volume if each.acquisition_number == acquisition]
            told = {each.images_in_acquisition for each in members}
            wanted = told.pop()
            # Scanners that count otherwise (all reconstructions, or one a rotation) prove nothing.
            if told or not wanted or wanted < len(members):
                return 0, None
            present, expected = present + len(members), expected + wanted
    return (present, expected) if expected else (0, None)


def _stacks(volume: Iterable[Slice]) -> list[NDArray[np.float64]]:
    """Return the places of parallel slices along their normal, in mm.

    Source: PS3.3 C.7.6.2.1.1; Slice Thickness says nothing about where slices are.
    """
    stacks: dict[tuple[float, ...], list[float]] = {}
    for each in volume:
        if each.position is None or each.orientation is None:
            continue
        row, column = np.asarray(each.orientation[:3]), np.asarray(each.orientation[3:])
        normal = np.cross(row, column)
        key = tuple(np.round(each.orientation, _PARALLEL) + 0.0)  # + 0.0 makes -0.0 and 0.0 one key
        stacks.setdefault(key, []).append(float(np.dot(normal, each.position)))
    return [np.asarray(places) for places in stacks.values() if len(places) >= VOLUME]


def count_gaps(places: NDArray[np.float64]) -> int:
    """Count where a stack of slices is interrupted.

    Args:
        places: Where the slices are along their normal, in mm, in any order; a place may come twice.

    Returns:
        How many increments are larger than is usual around them; two slices missing in a row are one gap.
    """
    increments = np.diff(np.sort(places))
    increments = increments[increments > _SAME_PLACE_MM]
    # The increment may change within a series, so each is compared with those around it.
    usual = [
        np.median(increments[max(0, index - _AROUND) : index + _AROUND + 1])
        for index in range(len(increments))
    ]
    return int(np.sum(increments > _GAP * np.asarray(usual)))
