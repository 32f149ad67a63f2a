"""Is a study complete? A pure judgement of what is known of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Final

from pydicom.uid import CTImageStorage

from lungnode.geometry import Geometry, geometry
from lungnode.headers import Orientation, SliceHeader, Vector

VOLUME: Final = 3  # slices of one series from which on increments can be compared
_NAME_LENGTH: Final = 64  # of a peer; notes have 255 characters
_PARALLEL: Final = 3  # decimals of the direction cosines within which slices are parallel


@dataclass(frozen=True)
class Slice:
    """What completeness needs of one instance."""

    series_instance_uid: str
    acquisition_number: int | None = None
    images_in_acquisition: int | None = None
    position: Vector | None = None
    orientation: Orientation | None = None


@dataclass(frozen=True)
class Told:
    """What the source of a study answered after the study's newest instance had come."""

    peer: str  # its name
    present: int  # CT images that are here
    expected: int  # that the peer has

    def __str__(self) -> str:
        return f"{self.present} of {self.expected} by query at {self.peer[:_NAME_LENGTH]}"


@dataclass(frozen=True)
class Evidence:
    """What is known about the completeness of a study: its instances say it, and perhaps its source."""

    present: int = 0  # instances of acquisitions whose count is known
    expected: int | None = None  # their count after Images in Acquisition; None when it is not known of all
    gaps: int = 0  # slices missing between the first and the last of their stack
    is_volume: bool = False
    is_multi_frame: bool = False  # an image holds several slices, whose positions are not known here
    told: Told | None = None
    asking_since: datetime | None = None  # the source was asked then, and the first attempt has not ended

    @property
    def is_counted(self) -> bool:
        """Whether Images in Acquisition says that every acquisition is whole."""
        return self.expected is not None and self.present == self.expected

    @property
    def is_proven(self) -> bool:
        """Whether a count is reached: the source's, which knows all series, else that of the acquisitions."""
        return self.is_counted if self.told is None else self.told.present == self.told.expected

    @property
    def is_lacking(self) -> bool:
        """Whether something is known to be missing."""
        is_short = self.told is not None and self.told.present < self.told.expected
        return is_short or self.gaps > 0 or (self.expected is not None and self.present < self.expected)


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
    gap only lengthens the wait. A source that is being asked may know of more series than those that came, so
    its first answer is waited for, as long as a quiet period that begins with the question.
    """
    if is_open:
        return Judgement(is_complete=False)
    if evidence.is_proven and not evidence.is_lacking and evidence.asking_since is None:
        return Judgement(is_complete=True, note=note_of(evidence))
    since = max(changed_at, evidence.asking_since or changed_at)
    ready_at = since + (quiet.lacking if evidence.is_lacking else quiet.normal)
    if now < ready_at:
        return Judgement(is_complete=False, wait_until=ready_at)
    return Judgement(is_complete=True, note=note_of(evidence))


def note_of(evidence: Evidence) -> str:
    """Return what was known, in the words that the report repeats."""
    counts = [str(evidence.told)] if evidence.told else []
    if evidence.expected is not None and not (evidence.told and evidence.is_counted):
        source = " by Images in Acquisition" if evidence.told else ""
        counts.append(f"{evidence.present} of {evidence.expected}{source}")
    if evidence.is_lacking:
        gaps = [f"{evidence.gaps} gap{'' if evidence.gaps == 1 else 's'}"] if evidence.gaps else []
        word = "complete" if evidence.is_proven else "incomplete"
        return f"{word}: {', '.join([*counts, *gaps])}"
    if evidence.is_proven:
        return f"complete: {counts[0]}"
    if evidence.is_volume:
        return "quiet: no gaps"
    return "quiet: multi-frame" if evidence.is_multi_frame else "quiet: not a volume"


def evidence_of(slices: Iterable[Slice]) -> Evidence:
    """Sum up what a study's instances say; series of fewer than three slices (localizers) say nothing."""
    ordered = sorted(slices, key=_series)
    volumes = [list(group) for _, group in groupby(ordered, key=_series)]
    volumes = [volume for volume in volumes if len(volume) >= VOLUME]
    present, expected = _count(volumes)
    shapes = [_shape(stack) for volume in volumes for stack in _stacks(volume)]
    return Evidence(
        present=present,
        expected=expected,
        gaps=sum(each.gaps for each in shapes),
        is_volume=any(each.spacing_mm is not None for each in shapes),
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


def _stacks(volume: Iterable[Slice]) -> list[list[Slice]]:
    """Return the parallel slices of one series that are enough to compare increments."""
    stacks: dict[tuple[float, ...], list[Slice]] = {}
    for each in volume:
        if each.position is not None and each.orientation is not None:
            # + 0.0 makes -0.0 and 0.0 one key.
            key = tuple(round(value, _PARALLEL) + 0.0 for value in each.orientation)
            stacks.setdefault(key, []).append(each)
    return [stack for stack in stacks.values() if len(stack) >= VOLUME]


def _shape(stack: Iterable[Slice]) -> Geometry:
    headers = [
        SliceHeader(
            path=Path(),
            sop_class_uid=CTImageStorage,
            sop_instance_uid="",
            study_instance_uid="",
            series_instance_uid=each.series_instance_uid,
            modality="CT",
            position=each.position,
            orientation=each.orientation,
        )
        for each in stack
    ]
    return geometry(headers)
