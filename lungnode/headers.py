"""What series choice and geometry need to know of one slice, read without its pixels.

A frame of an Enhanced CT is a slice like another: the same value is read from the functional groups.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Final

from pydicom import Dataset

from lungnode.errors import UnusableError
from lungnode.untrusted import untrusted

Vector = tuple[float, float, float]
Orientation = tuple[float, float, float, float, float, float]  # row cosines, then column cosines

MAX_FRAMES: Final = 20_000  # of one instance

# Where a value stands in the functional groups: the macro's sequence, then the attribute.
POSITION: Final = ("PlanePositionSequence", "ImagePositionPatient")
ORIENTATION: Final = ("PlaneOrientationSequence", "ImageOrientationPatient")
SPACING: Final = ("PixelMeasuresSequence", "PixelSpacing")
THICKNESS: Final = ("PixelMeasuresSequence", "SliceThickness")
_KERNEL: Final = ("CTReconstructionSequence", "ConvolutionKernel")
_FRAME_TYPE: Final = ("CTImageFrameTypeSequence", "FrameType")
_ACQUISITION: Final = ("FrameContentSequence", "FrameAcquisitionNumber")
_BODY_PART: Final = ("FrameAnatomySequence", "AnatomicRegionSequence")


@dataclass(frozen=True)
class SliceHeader:
    """One slice: a single-frame image, or one frame of a multi-frame one."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    frame: int | None = None  # counted from 1; None for a single-frame image
    image_type: tuple[str, ...] = ()
    body_part: str = ""
    descriptions: tuple[str, ...] = ()  # of study, series and protocol
    kernel: str = ""
    frame_of_reference_uid: str = ""
    instance_number: int | None = None
    acquisition_number: int | None = None
    rows: int = 0
    columns: int = 0
    spacing_mm: tuple[float, float] | None = None  # between rows, between columns
    thickness_mm: float | None = None
    orientation: Orientation | None = None  # Image Orientation (Patient)
    position: Vector | None = None  # Image Position (Patient), mm


def slice_headers(ds: Dataset, path: Path) -> list[SliceHeader]:
    """Read the headers of all slices that one instance holds, in its own order.

    Raises:
        UnusableError: A UID is missing, or a value cannot be read.
    """
    with untrusted(f"The headers of {path.name} cannot be read"):
        frames = _number(ds.get("NumberOfFrames")) or 1
        _check_frames(frames)
        if "PerFrameFunctionalGroupsSequence" not in ds and frames == 1:
            return [_header(ds, path, None)]
        return [_header(ds, path, frame) for frame in range(1, frames + 1)]


def _check_frames(frames: int) -> None:
    if not 1 <= frames <= MAX_FRAMES:
        raise UnusableError(f"Number of Frames is {frames}; it must lie in 1 to {MAX_FRAMES}.")


def _header(ds: Dataset, path: Path, frame: int | None) -> SliceHeader:
    groups = FunctionalGroups(ds, frame)
    return SliceHeader(
        path=path,
        sop_class_uid=_uid(ds, "SOPClassUID"),
        sop_instance_uid=_uid(ds, "SOPInstanceUID"),
        study_instance_uid=_uid(ds, "StudyInstanceUID"),
        series_instance_uid=_uid(ds, "SeriesInstanceUID"),
        modality=_text(ds.get("Modality")),
        frame=frame,
        image_type=tuple(
            _text(value).upper() for value in _values(groups.value(_FRAME_TYPE) or ds.get("ImageType"))
        ),
        body_part=_body_part(ds, groups),
        descriptions=tuple(
            filter(
                None, (_text(ds.get(k)) for k in ("StudyDescription", "SeriesDescription", "ProtocolName"))
            )
        ),
        kernel="\\".join(_text(value) for value in _values(groups.value(_KERNEL))),
        frame_of_reference_uid=_text(ds.get("FrameOfReferenceUID")),
        instance_number=_number(ds.get("InstanceNumber")),
        acquisition_number=_number(groups.value(_ACQUISITION) or ds.get("AcquisitionNumber")),
        rows=_number(ds.get("Rows")) or 0,
        columns=_number(ds.get("Columns")) or 0,
        spacing_mm=_floats(groups.value(SPACING), 2),
        thickness_mm=next(iter(_floats(groups.value(THICKNESS), 1) or ()), None),
        orientation=_floats(groups.value(ORIENTATION), 6),
        position=_floats(groups.value(POSITION), 3),
    )


class FunctionalGroups:
    """Where a slice keeps its values: its own functional groups, then the shared ones, then the data set.

    Source: PS3.3 C.7.6.16, a macro stands in the shared or in the per-frame groups, never in both.
    """

    def __init__(self, ds: Dataset, frame: int | None) -> None:
        per_frame, shared = (
            ds.get("PerFrameFunctionalGroupsSequence"),
            ds.get("SharedFunctionalGroupsSequence"),
        )
        own = [per_frame[frame - 1]] if frame and per_frame and frame <= len(per_frame) else []
        self._groups, self._root = [*own, *(shared or [])[:1]], ds

    def macro(self, keyword: str) -> Dataset:
        """Return the item of a macro; the data set itself where no group holds one."""
        return next(self._items(keyword), self._root)

    def value(self, where: tuple[str, str]) -> Any:
        """Return an attribute of a macro, or None."""
        macro, keyword = where
        holders = (*self._items(macro), self._root)
        return next((item[keyword].value for item in holders if item.get(keyword) is not None), None)

    def _items(self, macro: str) -> Iterator[Dataset]:
        return (group[macro].value[0] for group in self._groups if group.get(macro))


def _body_part(ds: Dataset, groups: FunctionalGroups) -> str:
    named = _text(ds.get("BodyPartExamined"))
    if named:
        return named.upper()
    region = groups.value(_BODY_PART)
    return _text(region[0].get("CodeMeaning")).upper() if region else ""


def _uid(ds: Dataset, keyword: str) -> str:
    value = _text(ds.get(keyword))
    if not value:
        raise UnusableError(
            f"{keyword} is missing or empty; without it the instance cannot be told from others."
        )
    return value


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


def _values(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _number(value: object) -> int | None:
    text = _text(value)
    return int(float(text)) if text else None


def _floats(value: Any, count: int) -> Any:
    """Return a tuple of `count` finite numbers, or None."""
    if value is None or value == "":
        return None
    numbers = tuple(float(v) for v in (value if count > 1 else [value]))
    return numbers if len(numbers) == count and all(map(isfinite, numbers)) else None
