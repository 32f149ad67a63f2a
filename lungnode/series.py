"""Which series of a study is analysed, and why: named rules in one order, each with its sentence.

Headers only help here: whether the chosen slices are a chest is seen on their pixels (lungnode.lungs).
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from lungnode.geometry import Geometry, geometry, normal
from lungnode.headers import SliceHeader, slice_headers

__all__ = [
    "Candidate",
    "Choice",
    "Geometry",
    "SliceHeader",
    "choose",
    "geometry",
    "labelled_chest",
    "slice_headers",
]

MIN_SLICES: Final = 10  # fewer show too little of a lung to say anything about a patient
MIN_SIDE: Final = 128  # rows and columns; smaller is a preview
MIN_AXIAL_COSINE: Final = 0.8  # between the slice normal and the body's long axis: 37 degrees of gantry tilt
FULL_EXTENT: Final = 0.8  # of the longest candidate's extent: as good as all of it
THIN_MM: Final = (0.5, 3.0)  # thinner is noise, thicker hides small opacities
THICK_MM: Final = 5.0

_CT_CLASSES: Final = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
# Values of Image Type (0008,0008) whose pixels are no plain axial slices.
_NO_SLICE_TYPES: Final = frozenset(
    {"LOCALIZER", "SCOUT", "MPR", "MIP", "MINIP", "PROJECTION", "REFORMATTED", "CURVED", "VOLREN", "3D"}
)
_CHEST: Final = re.compile(
    r"chest|thor|lung|pulm|poumon|t[oó]rax|torac|pecho|胸|肺|легк|лёгк|груд|огк", re.IGNORECASE
)
# Names of kernels made for the lung, and sharp ones of the makers: Siemens B/Br/Bl, Canon FC, GE, Philips.
_LUNG_KERNEL: Final = re.compile(r"lung|^b[rl]?[5-7]\d|^fc5\d|^(y[a-d]|l)$", re.IGNORECASE)


@dataclass(frozen=True)
class Candidate:
    """Slices of one series that form one stack."""

    series_instance_uid: str
    geometry: Geometry
    labelled_chest: bool

    @property
    def slices(self) -> tuple[SliceHeader, ...]:
        """Its slices, sorted top to bottom."""
        return self.geometry.slices


@dataclass(frozen=True)
class Choice:
    """What will be analysed."""

    series_instance_uid: str | None  # None: nothing can be
    reasons: tuple[str, ...]  # a sentence each, in the order of the rules
    slices: tuple[SliceHeader, ...] = ()  # sorted top to bottom
    geometry: Geometry | None = None
    labelled_chest: bool = False  # headers name the chest
    ranked: tuple[Candidate, ...] = ()  # the chosen one first; the next where pixels show no chest


def choose(headers: Iterable[SliceHeader], minimum: int = MIN_SLICES) -> Choice:
    """Choose the stack of slices to analyse.

    Args:
        headers: All slices of one study.
        minimum: Slices that a stack needs; 1 where a person asks for a single slice.
    """
    usable, reasons = _usable(list(headers))
    candidates: list[Candidate] = []
    for stack in _stacks(usable):
        candidate = Candidate(stack[0].series_instance_uid, geometry(stack), labelled_chest(stack[0]))
        problem = _problem(candidate, minimum)
        reasons += [problem] if problem else []
        candidates += [] if problem else [candidate]
    if not candidates:
        # One cause says more than that there is none; the last reason is the one that is shown.
        several = () if len(reasons) == 1 else ("No series holds axial CT slices that could be a chest.",)
        return Choice(None, (*reasons, *several))
    longest = max(candidate.geometry.extent_mm for candidate in candidates)
    ranked = tuple(sorted(candidates, key=lambda candidate: _rank(candidate, longest)))
    best = ranked[0]
    return Choice(
        best.series_instance_uid,
        (*reasons, _why(best, len(ranked))),
        best.slices,
        best.geometry,
        best.labelled_chest,
        ranked,
    )


def labelled_chest(header: SliceHeader) -> bool:
    """Say whether the headers name the chest; Body Part Examined counts more than descriptions."""
    if header.body_part:
        return bool(_CHEST.search(header.body_part))
    return any(_CHEST.search(text) for text in header.descriptions)


def _is_ct(header: SliceHeader) -> bool:
    return header.modality == "CT" and header.sop_class_uid in _CT_CLASSES


def _is_slice(header: SliceHeader) -> bool:
    return not any(
        word in _NO_SLICE_TYPES for value in header.image_type for word in re.split(r"[ \\]", value)
    )


def _is_axial(header: SliceHeader) -> bool:
    return header.orientation is None or normal(header.orientation)[2] >= MIN_AXIAL_COSINE


def _is_large_enough(header: SliceHeader) -> bool:
    return min(header.rows, header.columns) >= MIN_SIDE


# The order is the order in which a slice is tried; the first rule that it fails is counted.
_RULES: Final[tuple[tuple[Callable[[SliceHeader], bool], str], ...]] = (
    (_is_ct, "no CT image"),
    (_is_slice, "a localizer, projection or reformatted image (Image Type)"),
    (_is_axial, "not axial (Image Orientation)"),
    (_is_large_enough, f"smaller than {MIN_SIDE} x {MIN_SIDE}"),
)


def _usable(headers: list[SliceHeader]) -> tuple[list[SliceHeader], list[str]]:
    failed: dict[str, int] = defaultdict(int)
    usable = []
    for header in headers:
        problem = next((sentence for rule, sentence in _RULES if not rule(header)), None)
        if problem:
            failed[problem] += 1
        else:
            usable.append(header)
    return usable, [
        f"{count} of {len(headers)} images left out: {problem}." for problem, count in failed.items()
    ]


def _stacks(headers: Sequence[SliceHeader]) -> list[list[SliceHeader]]:
    """Split series into stacks that can be sorted: one orientation, matrix, spacing, thickness and kernel."""
    stacks: dict[tuple[object, ...], list[SliceHeader]] = defaultdict(list)
    for header in headers:
        orientation = tuple(round(value, 2) + 0.0 for value in header.orientation or ())
        spacing = tuple(round(value, 3) for value in header.spacing_mm or ())
        key = (header.series_instance_uid, orientation, header.rows, header.columns, spacing)
        stacks[(*key, header.thickness_mm, header.kernel, "DERIVED" in header.image_type[:1])].append(header)
    return [part for stack in stacks.values() for part in _acquisitions(stack)]


def _acquisitions(stack: list[SliceHeader]) -> list[list[SliceHeader]]:
    """Take acquisitions apart that lie over each other; those that follow each other stay one stack."""
    parts: dict[int | None, list[SliceHeader]] = defaultdict(list)
    for header in stack:
        parts[header.acquisition_number].append(header)
    found = [geometry(part).positions_mm for part in parts.values()]
    ranges = sorted((positions[-1], positions[0]) for positions in found if positions)
    apart = any(_lie_over(lower, upper) for lower, upper in pairwise(ranges))
    return list(parts.values()) if apart else [stack]


def _lie_over(lower: tuple[float, float], upper: tuple[float, float]) -> bool:
    shorter = min(lower[1] - lower[0], upper[1] - upper[0])
    return lower[1] - upper[0] > shorter / 2


def _problem(candidate: Candidate, minimum: int) -> str:
    count = len(candidate.slices)
    name = f"Series {candidate.series_instance_uid}"
    if candidate.geometry.note.startswith("not a volume") and count + len(candidate.geometry.duplicates) > 1:
        return f"{name} is {candidate.geometry.note}."
    if count < minimum:
        return f"{name} has {count} slices ({candidate.geometry.note}); at least {minimum} are needed."
    return ""


def _rank(candidate: Candidate, longest_mm: float) -> tuple[object, ...]:
    """Order candidates; the smallest is the best. The position in the tuple is the weight."""
    header = candidate.slices[0]
    return (
        not candidate.labelled_chest,
        candidate.geometry.extent_mm < FULL_EXTENT * longest_mm,
        "DERIVED" in header.image_type or "SECONDARY" in header.image_type,
        _thickness_class(header.thickness_mm),
        candidate.geometry.gaps > 0,
        not _LUNG_KERNEL.search(header.kernel),
        -len(candidate.slices),
        header.series_instance_uid,
        header.acquisition_number or 0,
    )


def _thickness_class(thickness_mm: float | None) -> int:
    if thickness_mm is None or thickness_mm > THICK_MM:
        return 2
    return 0 if THIN_MM[0] <= thickness_mm <= THIN_MM[1] else 1


def _why(best: Candidate, count: int) -> str:
    header, slices = best.slices[0], len(best.slices)
    thickness = f"{header.thickness_mm:g} mm" if header.thickness_mm else "unknown thickness"
    extent = (
        f"{slices} axial slices over {best.geometry.extent_mm:.0f} mm" if slices > 1 else "an axial slice"
    )
    return (
        f"Series {best.series_instance_uid} {f'was chosen of {count}' if count > 1 else 'is the only one'}: "
        f"{extent}, {thickness}, kernel {header.kernel or 'unknown'}, "
        f"{'' if best.labelled_chest else 'not '}labelled chest, {best.geometry.note}."
    )
