"""How the slices of one stack lie: their order, spacing, gaps, duplicates and tilt."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from lungnode.headers import Orientation, SliceHeader, Vector

SAME_MM: Final = 0.02  # positions nearer than this are one; headers round to 0.01 or less
GAP: Final = 1.5  # times the median spacing
IRREGULAR: Final = 0.1  # of the median spacing; more is no rounding
TILT_DEGREES: Final = 1.0  # less is rounding


@dataclass(frozen=True)
class Geometry:
    """The slices of one stack, sorted from top (head) to bottom, one a position."""

    slices: tuple[SliceHeader, ...]
    positions_mm: tuple[
        float, ...
    ] = ()  # along the slice normal, towards the head; falls from slice to slice
    spacing_mm: float | None = None  # median; None for fewer than two positions
    gaps: int = 0  # slices missing between the first and the last
    duplicates: tuple[str, ...] = ()  # a sentence each: which slice was left out for which
    irregular: bool = False  # spacing varies without being a multiple of the median
    tilt_degrees: float = 0.0  # between the slice normal and the direction in which slices follow each other
    note: str = ""  # all of it in one sentence

    @property
    def extent_mm(self) -> float:
        """From the first position to the last."""
        return self.positions_mm[0] - self.positions_mm[-1] if self.positions_mm else 0.0


def normal(orientation: Orientation) -> Vector:
    """Return the slice normal of length 1, pointing to the head wherever it can.

    Source: PS3.3 C.7.6.2.1.1, Image Position and Image Orientation; the z-axis rises to the head.
    """
    across = np.cross(orientation[:3], orientation[3:])
    length = float(np.linalg.norm(across)) or 1.0  # cosines that are rounded, or zeros
    x, y, z = (float(v) / length for v in (across if across[2] >= 0 else -across))
    return x, y, z


def geometry(headers: Sequence[SliceHeader]) -> Geometry:
    """Sort the slices of one stack and describe how they lie.

    Slices without position or orientation keep the order of their instance numbers.
    """
    placed = [header for header in headers if header.position and header.orientation]
    if len(placed) < len(headers) or not placed:
        ordered = tuple(sorted(headers, key=_rank))
        missing = len(headers) - len(placed)
        return Geometry(ordered, note=f"not a volume: {missing} of {len(headers)} slices have no position")
    axis = normal(placed[0].orientation or (1, 0, 0, 0, 1, 0))
    at = {id(header): float(np.dot(header.position or (0, 0, 0), axis)) for header in placed}
    placed.sort(key=lambda header: (-at[id(header)], *_rank(header)))
    kept, duplicates = _without_duplicates(placed, [at[id(header)] for header in placed])
    positions = tuple(at[id(header)] for header in kept)
    return _described(Geometry(tuple(kept), positions, duplicates=duplicates, tilt_degrees=_tilt(kept, axis)))


def _rank(header: SliceHeader) -> tuple[float, str, int]:
    """Order slices at one position: the lower instance number, then the lower UID and frame, comes first."""
    number = float("inf") if header.instance_number is None else header.instance_number
    return number, header.sop_instance_uid, header.frame or 0


def _without_duplicates(
    ordered: Sequence[SliceHeader], positions: Sequence[float]
) -> tuple[list[SliceHeader], tuple[str, ...]]:
    kept: list[SliceHeader] = []
    sentences: list[str] = []
    last = float("inf")
    for header, position in zip(ordered, positions, strict=True):
        if last - position > SAME_MM:
            kept.append(header)
            last = position
        else:
            winner = kept[-1]
            sentences.append(
                f"{_name(header)} lies where {_name(winner)} does; the lower instance number was kept"
            )
    return kept, tuple(sentences)


def _name(header: SliceHeader) -> str:
    frame = f" frame {header.frame}" if header.frame else ""
    return f"instance {header.instance_number} ({header.sop_instance_uid}){frame}"


def _tilt(ordered: Sequence[SliceHeader], axis: Vector) -> float:
    if len(ordered) < 2:  # noqa: PLR2004 - one slice has no direction
        return 0.0
    way = np.subtract(ordered[0].position or (0, 0, 0), ordered[-1].position or (0, 0, 0))
    length = float(np.linalg.norm(way))
    cosine = abs(float(np.dot(way, axis))) / length if length else 1.0
    return float(np.degrees(np.arccos(min(cosine, 1.0))))


def _described(found: Geometry) -> Geometry:
    steps = np.array([upper - lower for upper, lower in pairwise(found.positions_mm)])
    if not steps.size:
        count = len(found.slices) + len(found.duplicates)
        note = f"not a volume: {count} slices lie at one position" if count > 1 else "one slice"
        return Geometry(found.slices, found.positions_mm, duplicates=found.duplicates, note=note)
    spacing = float(np.median(steps))
    wide = steps > GAP * spacing
    gaps = int((np.rint(steps[wide] / spacing) - 1).sum())
    off = np.abs(steps / spacing - np.rint(steps / spacing)) > IRREGULAR
    described = Geometry(
        found.slices,
        found.positions_mm,
        spacing,
        gaps,
        found.duplicates,
        bool(off.any()),
        found.tilt_degrees if found.tilt_degrees > TILT_DEGREES else 0.0,
    )
    return Geometry(**{**described.__dict__, "note": _note(described)})


def _note(found: Geometry) -> str:
    parts = [
        f"{found.gaps} gaps" if found.gaps > 1 else "1 gap" if found.gaps else "no gaps",
        _duplicates(len(found.duplicates)),
        "irregular spacing" if found.irregular else "",
        f"gantry tilt {found.tilt_degrees:.0f}°" if found.tilt_degrees else "",
    ]
    return ", ".join(part for part in parts if part)


def _duplicates(count: int) -> str:
    return f"{count} duplicate{'s' if count > 1 else ''} left out" if count else ""
