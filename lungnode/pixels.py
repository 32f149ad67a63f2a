"""From stored pixels to the network's input: the one definition that worker and trainer share."""

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset

from lungnode.decode import Stored, raw_frame, stored_values
from lungnode.errors import UnusableError
from lungnode.gray import Box, Gray, read_image
from lungnode.headers import FunctionalGroups
from lungnode.lungs import lung_mask
from lungnode.untrusted import untrusted

__all__ = [
    "Box",
    "Crop",
    "Gray",
    "Hounsfield",
    "crop_box",
    "hounsfield",
    "lung_gray",
    "lung_window",
    "model_input",
    "read_image",
]

Hounsfield = NDArray[np.float32]  # shape (rows, columns)
Crop = Literal["lung", "paper"]

WINDOW_CENTER: Final = -600.0  # HU, lung window
WINDOW_WIDTH: Final = 1500.0  # HU
AIR_HU: Final = -1024.0  # the least a 12-bit CT image holds; padding lies below it or is declared
PAPER_EDGE: Final = 50 / 512  # of the height, cut from top and bottom; the paper's
LUNG_MARGIN: Final = 0.04  # of the box's longer side, so that pleura and chest wall stay in sight
MIN_LUNG_SIDE: Final = 0.25  # of the matrix; a smaller box is an apex or no lung and would be blown up
MIN_LUNG_WIDTH: Final = 0.8  # of the box's height; a narrower box has lost one of two lungs


def hounsfield(ds: Dataset, frame: int | None = None) -> Hounsfield:
    """Decode one slice to Hounsfield units; padding becomes air.

    Photometric Interpretation only says how values are shown: MONOCHROME1 has the same Hounsfield units.

    Args:
        ds: A CT image with its File Meta group and pixels.
        frame: Counted from 1; None for a single-frame image.

    Raises:
        UnusableError: No CT, no Hounsfield units, or pixels that cannot be decoded.
    """
    number = 1 if frame is None else frame
    with untrusted("The image cannot be read"):
        _check_is_ct(ds)
        return _to_hounsfield(ds, number, stored_values(ds, number))


def lung_gray(ds: Dataset, frame: int | None = None) -> Gray:
    """Decode one slice to 8-bit gray in the lung window: `lung_window(hounsfield(ds, frame))`, faster.

    Raises:
        UnusableError: As `hounsfield`.
    """
    number = 1 if frame is None else frame
    with untrusted("The image cannot be read"):
        _check_is_ct(ds)
        raw = raw_frame(ds, number)
        return raw.looked_up(lambda stored: lung_window(_to_hounsfield(ds, number, stored)))


def _to_hounsfield(ds: Dataset, frame: int, stored: Stored) -> Hounsfield:
    slope, intercept = _rescale(ds, frame)
    values: Hounsfield = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    padding = _padding(ds, stored)
    if padding is not None:
        values[padding] = AIR_HU
    return values.clip(min=np.float32(AIR_HU))


def _check_is_ct(ds: Dataset) -> None:
    if ds.get("Modality") != "CT":
        raise UnusableError(f"Modality (0008,0060) is {ds.get('Modality')!r}; only CT can be analysed.")
    interpretation = ds.get("PhotometricInterpretation")
    if interpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise UnusableError(
            f"Photometric Interpretation (0028,0004) is {interpretation!r}; CT is MONOCHROME1 or MONOCHROME2."
        )


def _rescale(ds: Dataset, frame: int) -> tuple[float, float]:
    """Read slope and intercept. Source: PS3.3 C.11.1 and C.7.6.16.2.9, Pixel Value Transformation."""
    source = FunctionalGroups(ds, frame).macro("PixelValueTransformationSequence")
    unit = source.get("RescaleType") or "HU"
    if unit != "HU":
        raise UnusableError(f"Rescale Type (0028,1054) is {unit!r}; only Hounsfield units can be analysed.")
    slope, intercept = source.get("RescaleSlope"), source.get("RescaleIntercept")
    if slope is None or intercept is None:
        raise UnusableError(
            f"Rescale Slope and Intercept are {slope!r} and {intercept!r}; "
            "without both there are no Hounsfield units."
        )
    if not (np.isfinite([float(slope), float(intercept)]).all() and float(slope) > 0):
        raise UnusableError(f"Rescale Slope {slope} and Intercept {intercept} give no Hounsfield units.")
    return float(slope), float(intercept)


def _padding(ds: Dataset, stored: Stored) -> NDArray[np.bool_] | None:
    """Find the padded pixels. Source: PS3.3 C.7.5.1.1.2, Pixel Padding Value and Range Limit."""
    value, limit = ds.get("PixelPaddingValue"), ds.get("PixelPaddingRangeLimit")
    if not isinstance(value, int):
        return None
    # Writers get the VR (US or SS) of these two wrong: the same 16 bits are compared.
    low, high = sorted(_as_stored(bound, ds) for bound in (value, limit if isinstance(limit, int) else value))
    return (stored >= low) & (stored <= high)


def _as_stored(value: int, ds: Dataset) -> int:
    bits = int(ds.BitsAllocated)
    value &= (1 << bits) - 1
    return value - (1 << bits) if ds.PixelRepresentation == 1 and value >> (bits - 1) else value


def lung_window(values: Hounsfield) -> Gray:
    """Map Hounsfield units to 8-bit gray with the lung window.

    Source: PS3.3 C.11.2.1.2.1, VOI LUT Function LINEAR, output range 0 to 255.
    """
    scaled = (values - (WINDOW_CENTER - 0.5)) / (WINDOW_WIDTH - 1) + 0.5
    gray: Gray = np.rint(scaled.clip(0.0, 1.0) * 255).astype(np.uint8)
    return gray


def crop_box(gray: Gray, crop: Crop) -> Box:
    """Return the part of a slice that the network sees.

    "paper" cuts the paper's 50 of 512 rows from top and bottom; "lung" is the lung's bounding box with a
    margin, or the paper's crop where no lung is found.
    """
    rows, columns = gray.shape
    edge = round(rows * PAPER_EDGE)
    paper = Box(edge, rows - edge, 0, columns)
    return paper if crop == "paper" else _lung_box(gray) or paper


def _lung_box(gray: Gray) -> Box | None:
    mask = lung_mask(gray)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return None
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    height, width = bottom - top, right - left
    if max(width / gray.shape[1], height / gray.shape[0]) < MIN_LUNG_SIDE or width < MIN_LUNG_WIDTH * height:
        return None
    margin = round(LUNG_MARGIN * max(height, width))
    return Box(
        max(top - margin, 0),
        min(bottom + margin, gray.shape[0]),
        max(left - margin, 0),
        min(right + margin, gray.shape[1]),
    )


def model_input(gray: Gray, box: Box, size: int = 299) -> Gray:
    """Crop and resize a slice to the network's input, shape (size, size).

    Pillow's bilinear filter widens with the reduction, so that nothing aliases; it is integer arithmetic and
    the same on every machine.
    """
    cropped = np.ascontiguousarray(gray[box.top : box.bottom, box.left : box.right])
    resized = Image.fromarray(cropped).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.uint8)
