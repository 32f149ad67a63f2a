"""Where lung is: on one slice of any source, and along a series; chest or not is decided here, on pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from lungnode.gray import Gray

Mask = NDArray[np.bool_]  # shape of the slice or volume it belongs to
Volume = NDArray[np.uint8]  # shape (slices, rows, columns), lung window, top to bottom
Labels = NDArray[np.signedinteger]  # 0 is unlabelled
Sums = NDArray[np.float64]  # a value a label or a slice

MAX_SIDE: Final = 256  # finer is not needed to find a lung, and costs time
MAX_SLICES: Final = (
    200  # of more, only every second, third, ... is looked at: they are thin, and time and memory count
)
TISSUE: Final = 161  # gray of -400 HU in the lung window: half way between lung and chest wall
GAS: Final = 72  # gray of -925 HU: the mean inside trachea, bowel and skull is darker, in a lung brighter
EMPHYSEMA: Final = 65  # gray of -965 HU: a lung may be so dark
VESSELS: Final = 6.5  # gray, 38 HU: but then its vessels make it uneven, by at least this deviation
MIN_SIDE_SHARE: Final = 0.15  # of the largest dark area of a slice; the other lung may be small
MIN_PEAK_SHARE: Final = 0.25  # of the larger lung's fullest slice; bowel that passed for lung stays below
MIN_AREA_MM2: Final = 15.0  # of lung on a slice that counts as covering it
MIN_CHEST_MM2: Final = 2500.0  # of lung on the fullest slice; adults have 15,000 and more, a head none
MIN_EXTENT: Final = 0.25  # of the slices, when the lung is cut off at one end: else a neck or an abdomen
SHOULDERS_MM: Final = 280.0  # a body wider than this is no head and no neck
FEW_SLICES: Final = 10  # so few may miss the lung of a chest
CORNER_AIR: Final = 0.05  # of the picture; with less, the picture is cropped to the body
DEFAULT_PIXEL_MM: Final = 0.75  # of a 512 matrix, when the image does not say


@dataclass(frozen=True)
class Coverage:
    """Where a series shows lung."""

    first: int | None  # slice, counted from 0; None when no lung is seen
    last: int | None  # included
    is_chest: bool
    reason: str  # one sentence: what was seen
    area_fraction: tuple[float, ...]  # lung's share of the slice, a value a slice
    volume_ml: float | None = None  # of aerated lung; None when the spacing is unknown
    ends_above: bool = False  # slices without lung lie above the first
    ends_below: bool = False  # and below the last


def lung_mask(gray: Gray) -> Mask:
    """Mark lung on one slice: a scanner's, or a figure without any air around the body.

    All False where nothing looks like lung.
    """
    found = _dark_areas(_reduce(gray))
    if not found.any():
        return np.zeros(gray.shape, np.bool_)
    full = Image.fromarray(found.astype(np.uint8)).resize(gray.shape[::-1], Image.Resampling.NEAREST)
    return np.asarray(full).astype(np.bool_)


def _dark_areas(gray: Gray) -> Mask:
    """Keep the large dark areas inside the body."""
    labels, count = ndimage.label(gray < _threshold(gray))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[_outside(labels[None], sizes)] = 0
    sizes[0] = 0
    if sizes.max() < 0.01 * gray.size:
        return np.zeros(gray.shape, np.bool_)
    keep: Mask = sizes >= MIN_SIDE_SHARE * sizes.max()
    return keep[labels]


def _outside(labels: Labels, sizes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Tell air around the body from lungs that the edge of the picture cuts; shape (slices, rows, columns).

    Air around the body reaches a corner. Where there is such air, everything at the edge is outside (gaps of
    the table); where there is none, the pictures are cropped and dark areas at their edge are lung.
    """
    corners = np.unique(labels[:, [0, 0, -1, -1], [0, -1, 0, -1]]).astype(np.intp)
    if sizes[corners[corners > 0]].sum() <= CORNER_AIR * labels.size:
        return corners
    edges = labels[:, [0, -1], :].ravel(), labels[:, :, [0, -1]].ravel()
    return np.unique(np.concatenate(edges)).astype(np.intp)


def _threshold(gray: Gray) -> float:
    """Split dark from bright (Otsu), within limits: authors window their figures as they like."""
    counts = np.bincount(gray.ravel(), minlength=256).astype(np.float64)
    below, total = counts.cumsum(), (counts * np.arange(256)).cumsum()
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total / below - (total[-1] - total) / above) ** 2
    return float(np.clip(np.nan_to_num(between).argmax() + 1, 80, TISSUE))


def _reduce(gray: Gray) -> Gray:
    factor = -(-max(gray.shape) // MAX_SIDE)
    return gray if factor == 1 else np.asarray(Image.fromarray(gray).reduce(factor), dtype=np.uint8)


def coverage(
    volume: Sequence[Gray] | Volume,
    pixel_mm: float | None = None,
    slice_mm: float | None = None,
    *,
    labelled_chest: bool = False,
) -> Coverage:
    """Find the slices that show lung, and say whether this is a chest.

    Args:
        volume: Lung-window slices of one series, sorted top to bottom; one slice is enough.
        pixel_mm: Distance of two pixels of `volume`.
        slice_mm: Distance of two slices.
        labelled_chest: The headers name the chest: a few slices through shoulders, without lung, are taken
            as one, and a head is still none.
    """
    total, step = len(volume), -(-len(volume) // MAX_SLICES)
    small = np.stack([_reduce(slice_) for slice_ in volume[::step]])
    columns = volume[0].shape[1]
    pixel = (pixel_mm or DEFAULT_PIXEL_MM * 512 / columns) * columns / small.shape[2]
    lung = _lung(small)
    areas = np.repeat(lung.sum(axis=(1, 2)), step)[:total] * pixel**2
    covered = np.flatnonzero(areas >= MIN_AREA_MM2)
    extent = (int(covered[0]), int(covered[-1])) if covered.size else None
    is_chest, reason = _judge(areas, extent)
    if not is_chest and labelled_chest and total < FEW_SLICES and _body_mm(small, pixel) > SHOULDERS_MM:
        is_chest, extent = True, None
        reason = "The headers say chest and the body is too wide for a head, though hardly any lung is seen."
    return Coverage(
        first=extent[0] if extent else None,
        last=extent[1] if extent else None,
        is_chest=is_chest,
        reason=reason,
        area_fraction=tuple(float(area) for area in areas / (small[0].size * pixel**2)),
        volume_ml=float(areas.sum() * slice_mm / 1000) if slice_mm else None,
        ends_above=extent is not None and extent[0] > 0,
        ends_below=extent is not None and extent[1] < total - 1,
    )


def _lung(small: Volume) -> Mask:
    """Mark the lungs of a volume: enclosed dark areas that hold tissue, joined across slices."""
    return _largest(_candidates(small))


def _candidates(small: Volume) -> Mask:
    """Mark the areas of each slice that may be lung."""
    in_plane = ndimage.generate_binary_structure(3, 1)
    in_plane[0] = in_plane[2] = False
    dark = small < TISSUE
    labels, count = ndimage.label(dark, in_plane)
    # The rim of a trachea is as bright as lung by partial volume: only the inside counts.
    inside = _eroded(_eroded(dark))
    keep = _hold_tissue(labels, small, inside, count)
    sizes = np.zeros(count + 1, np.intp)
    for plane in labels:  # all at once they would be copied as 64-bit integers
        sizes += np.bincount(plane.ravel(), minlength=count + 1)
    keep[_outside(labels, sizes)] = False
    keep[0] = False
    found: Mask = keep[labels]
    return found


def _eroded(mask: Mask) -> Mask:
    """Keep what has all four neighbours in its slice; a twelfth of the time that ndimage takes."""
    inner: Mask = np.zeros_like(mask)
    beside = mask[:, :-2, 1:-1] & mask[:, 2:, 1:-1] & mask[:, 1:-1, :-2] & mask[:, 1:-1, 2:]
    inner[:, 1:-1, 1:-1] = mask[:, 1:-1, 1:-1] & beside
    return inner


def _hold_tissue(labels: Labels, gray: Volume, inside: Mask, count: int) -> Mask:
    """Say of each area whether it is lung and not gas, by the gray of its inside.

    An area too thin to have an inside may be lung: what it is joined to decides.
    """
    number, total, squares = np.zeros((3, count + 1))
    levels = np.arange(256)
    for plane, shades, inner in zip(labels, gray, inside, strict=True):
        areas = plane[inner].astype(np.intp)
        first = int(areas.min(initial=count))  # areas are numbered from slice to slice
        counts = np.bincount((areas - first) * 256 + shades[inner])
        counts = np.pad(counts, (0, -len(counts) % 256)).reshape(-1, 256)
        here = slice(first, first + len(counts))
        number[here] += counts.sum(axis=1)
        total[here] += counts @ levels
        squares[here] += counts @ levels**2
    divisor = np.maximum(number, 1)
    mean = total / divisor
    variance = squares / divisor - mean**2
    found: Mask = (number == 0) | (mean >= GAS) | ((mean >= EMPHYSEMA) & (variance >= VESSELS**2))
    return found


def _largest(candidates: Mask) -> Mask:
    """Keep what is joined across slices to something as wide as a lung."""
    labels, count = ndimage.label(candidates)
    peaks = np.zeros(count + 1, np.intp)
    for plane in labels:
        np.maximum(peaks, np.bincount(plane.ravel(), minlength=count + 1), out=peaks)
        peaks[0] = 0
    keep = (peaks > 0) & (peaks >= MIN_PEAK_SHARE * peaks.max())
    found: Mask = keep[labels]
    return found


def _judge(areas: Sums, extent: tuple[int, int] | None) -> tuple[bool, str]:
    """Say whether this much lung, from the first slice to the last, is a chest, and why."""
    if extent is None:
        return False, "No lung is seen on any slice."
    most, least = areas.max() / 100, MIN_CHEST_MM2 / 100
    if most < least:
        return (
            False,
            f"The fullest slice shows {most:.0f} cm² of lung; a chest shows at least {least:.0f} cm².",
        )
    first, last = extent
    shown, total = last - first + 1, len(areas)
    if (first == 0) != (last == total - 1) and shown < MIN_EXTENT * total:
        return False, f"Only {shown} of {total} slices show lung, all at one end."
    return (
        True,
        f"Lung is seen on slices {first + 1} to {last + 1} of {total}." if total > 1 else "Lung is seen.",
    )


def _body_mm(small: Volume, pixel_mm: float) -> float:
    """Return the width of the widest bright area on the middle slice."""
    labels, count = ndimage.label(small[len(small) // 2] >= TISSUE)
    if count == 0:
        return 0.0
    body = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    columns = np.flatnonzero(body.any(axis=0))
    return float(columns[-1] - columns[0] + 1) * pixel_mm
