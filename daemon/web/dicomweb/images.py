"""Images as others want them: native pixels, another transfer syntax, a picture for a browser."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmwrite
from pydicom.encaps import get_frame
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, ExplicitVRLittleEndian

from lungnode.decode import raw_frame
from lungnode.headers import FunctionalGroups
from lungnode.loading import read_instance
from lungnode.untrusted import untrusted

Picture = NDArray[np.uint8]  # shape (rows, columns) or (rows, columns, 3)
_GRAY: Final = ("MONOCHROME1", "MONOCHROME2")
_MOST_FRAMES: Final = 4096


@dataclass(frozen=True)
class Window:
    """A linear VOI window. Source: PS3.3 C.11.2.1.2."""

    center: float
    width: float

    def apply(self, values: NDArray[np.float32]) -> Picture:
        """Return 8-bit gray."""
        if self.width <= 1:
            return ((values > self.center - 0.5) * np.uint8(255)).astype(np.uint8)
        scaled = (values - (self.center - 0.5)) / (self.width - 1) + 0.5
        shown: Picture = np.rint(scaled.clip(0, 1) * 255).astype(np.uint8)
        return shown


def open_object(path: Path, *, pixels: bool = True) -> Dataset:
    """Read a file of the archive or of the outputs.

    Raises:
        UnavailableError: It is away.
        UnusableError: It is damaged.
    """
    return read_instance(path, pixels=pixels)


def frame_count(ds: Dataset) -> int:
    """Return how many frames an image has; 0 for an object without pixels."""
    if "PixelData" not in ds and "FloatPixelData" not in ds:
        return 0
    return min(int(ds.get("NumberOfFrames") or 1), _MOST_FRAMES)


def stored_frame(ds: Dataset, number: int) -> bytes:
    """Return a frame as it is stored: its codestream, or its native bytes.

    Raises:
        UnusableError: It cannot be found.
    """
    if UID(ds.file_meta.TransferSyntaxUID).is_encapsulated:
        with untrusted("The frame cannot be found"):
            return bytes(get_frame(ds.PixelData, number - 1, number_of_frames=frame_count(ds)))
    return native_frame(ds, number)


def native_frame(ds: Dataset, number: int) -> bytes:
    """Return a frame's pixels uncompressed, in little-endian byte order.

    Raises:
        UnusableError: It cannot be decoded.
    """
    values = _samples(ds, number)
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def _samples(ds: Dataset, number: int) -> NDArray[Any]:
    """Return the samples of a frame as wide as Bits Allocated says."""
    if ds.get("SamplesPerPixel", 1) == 1 and "PixelData" in ds and ds.get("BitsAllocated") != 1:
        stored = raw_frame(ds, number).stored()
        kind = np.dtype(f"{'i' if ds.PixelRepresentation else 'u'}{ds.BitsAllocated // 8}")
        return stored.astype(kind)
    with untrusted("The pixel data cannot be decoded"):
        return np.asarray(pixel_array(ds, index=number - 1, raw=True))


def explicit_little_endian(ds: Dataset) -> bytes:
    """Return an object as a DICOM file in Explicit VR Little Endian, with native pixels.

    Raises:
        UnusableError: It cannot be decoded.
    """
    if UID(ds.file_meta.TransferSyntaxUID).is_encapsulated and "PixelData" in ds:
        frames = [_samples(ds, number) for number in range(1, frame_count(ds) + 1)]
        pixels = b"".join(each.tobytes() for each in frames)
        ds.PixelData = pixels + b"\0" * (len(pixels) % 2)
        ds["PixelData"].VR = "OW" if ds.BitsAllocated > 8 else "OB"  # noqa: PLR2004 - PS3.5 A.2
        ds["PixelData"].is_undefined_length = False
        if ds.get("SamplesPerPixel", 1) > 1:
            ds.PlanarConfiguration = 0
        for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
            ds.pop(keyword, None)
    buffer = io.BytesIO()
    with untrusted("The object cannot be written in another transfer syntax"):
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dcmwrite(buffer, ds, enforce_file_format=True, little_endian=True, implicit_vr=False)
    return buffer.getvalue()


def picture(ds: Dataset, number: int, window: Window | None) -> Picture:
    """Return a frame as a person sees it.

    Args:
        ds: An image with its pixels.
        number: Of the frame, from 1.
        window: In the image's own unit; without one, the image's, else from its darkest to its brightest.

    Raises:
        UnusableError: It cannot be decoded.
    """
    if ds.get("PhotometricInterpretation") not in _GRAY:
        with untrusted("The pixel data cannot be decoded"):
            return np.asarray(pixel_array(ds, index=number - 1)).astype(np.uint8)
    values = _values(ds, number)
    shown = (window or _own_window(ds, number) or _whole_range(values)).apply(values)
    return 255 - shown if ds.PhotometricInterpretation == "MONOCHROME1" else shown


def _values(ds: Dataset, number: int) -> NDArray[np.float32]:
    slope, intercept = _rescale(ds, number)
    if "FloatPixelData" in ds:
        with untrusted("The pixel data cannot be decoded"):
            return np.asarray(pixel_array(ds, index=number - 1), np.float32)
    return raw_frame(ds, number).looked_up(
        lambda stored: stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    )


def _rescale(ds: Dataset, number: int) -> tuple[float, float]:
    source = FunctionalGroups(ds, number).macro("PixelValueTransformationSequence")
    slope, intercept = _first(source.get("RescaleSlope")), _first(source.get("RescaleIntercept"))
    return (1.0, 0.0) if slope is None or intercept is None else (slope, intercept)


def _own_window(ds: Dataset, number: int) -> Window | None:
    source = FunctionalGroups(ds, number).macro("FrameVOILUTSequence")
    center, width = _first(source.get("WindowCenter")), _first(source.get("WindowWidth"))
    return None if center is None or width is None or width < 1 else Window(center, width)


def _first(value: Any) -> float | None:
    try:
        return float(value[0] if hasattr(value, "__iter__") and not isinstance(value, str) else value)
    except (TypeError, ValueError, IndexError):
        return None


def _whole_range(values: NDArray[np.float32]) -> Window:
    low, high = float(values.min()), float(values.max())
    return Window((low + high + 1) / 2, max(high - low + 1, 1))


def encode_picture(shown: Picture, media_type: str, size: tuple[int, int] | None, quality: int = 90) -> bytes:
    """Return a picture as JPEG or PNG, fitted into `size` (width, height) where one is given."""
    image = Image.fromarray(shown)
    if size is not None:
        image.thumbnail(size, Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    if media_type == "image/png":
        image.save(buffer, "PNG", compress_level=1)
    else:
        image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
