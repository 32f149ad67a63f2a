"""Stored pixel values of one frame, from every transfer syntax that CT comes in.

The bytes are untrusted: what they claim is checked before memory is taken, and whatever a codec raises
becomes one UnusableError that names the rule and the value.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from lungnode.codestream import Codestream, read_jpeg, read_jpeg2000
from lungnode.errors import UnusableError
from lungnode.headers import MAX_FRAMES
from lungnode.untrusted import may_grow_to, untrusted

Stored = NDArray[np.int32]  # shape (rows, columns), stored values with their sign

MAX_SIDE: Final = 8192  # sixteen times a scanner's matrix; a 20,000 x 20,000 image would take 1.6 GB
_NATIVE_TYPES: Final = {8: "u1", 16: "u2", 32: "u4"}

_Codec = Callable[[bytes], NDArray[Any]]
_Reader = Callable[[bytes], Codestream]
_JPEG: Final[tuple[_Codec, _Reader]] = (imagecodecs.jpeg8_decode, read_jpeg)  # 8, 12 bits; lossless up to 16
_JPEG_LS: Final[tuple[_Codec, _Reader]] = (imagecodecs.jpegls_decode, read_jpeg)
_JPEG_2000: Final[tuple[_Codec, _Reader]] = (imagecodecs.jpeg2k_decode, read_jpeg2000)  # HTJ2K as well
_CODECS: Final[dict[UID, tuple[_Codec, _Reader]]] = {
    JPEGBaseline8Bit: _JPEG,
    JPEGExtended12Bit: _JPEG,
    JPEGLossless: _JPEG,
    JPEGLosslessSV1: _JPEG,
    JPEGLSLossless: _JPEG_LS,
    JPEGLSNearLossless: _JPEG_LS,
    JPEG2000Lossless: _JPEG_2000,
    JPEG2000: _JPEG_2000,
    HTJ2KLossless: _JPEG_2000,
    HTJ2KLosslessRPCL: _JPEG_2000,
    HTJ2K: _JPEG_2000,
}


@dataclass(frozen=True)
class Layout:
    """How an image's pixels are laid out. Source: PS3.3 C.7.6.3, Image Pixel Macro."""

    syntax: UID
    rows: int
    columns: int
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool


@dataclass(frozen=True)
class RawFrame:
    """One decoded frame, before the bits that are not stored are dropped and the sign is extended."""

    values: NDArray[Any]  # shape (rows, columns), integers
    layout: Layout

    def stored(self) -> Stored:
        """Return the stored values, with their sign."""
        return _with_sign(self.values, self.layout)

    def looked_up(self, convert: Callable[[Stored], NDArray[Any]]) -> NDArray[Any]:
        """Return `convert` of the stored values; each value is converted once, for pixels are far more.

        Args:
            convert: Applied value by value, to an array of any shape.
        """
        values = self.values
        unsigned = values.view(f"u{values.itemsize}") if values.dtype.kind == "i" else values
        highest = int(unsigned.max())
        if highest >= unsigned.size:
            return convert(self.stored())
        table = convert(_with_sign(np.arange(highest + 1), self.layout))
        found: NDArray[Any] = table.take(unsigned)
        return found


def stored_values(ds: Dataset, frame: int = 1) -> Stored:
    """Decode one frame to its stored values; the rest as `raw_frame`."""
    return raw_frame(ds, frame).stored()


def raw_frame(ds: Dataset, frame: int = 1) -> RawFrame:
    """Decode one frame.

    Args:
        ds: An image with its File Meta group.
        frame: Counted from 1.

    Raises:
        UnusableError: No pixel data, unusable attributes, a retired syntax, or damaged bytes.
    """
    with untrusted("The pixel data cannot be decoded"):
        layout = read_layout(ds, frame)
        if not layout.syntax.is_encapsulated:
            return RawFrame(_native(ds, layout, frame), layout)
        return _decompress(_fragments(ds, layout, frame), layout)


def read_layout(ds: Dataset, frame: int = 1) -> Layout:
    """Read and check the image pixel attributes, before any memory is taken for pixels.

    Args:
        ds: An image with its File Meta group.
        frame: That will be asked for, counted from 1.

    Raises:
        UnusableError: An attribute is missing or has a value that no CT image can have.
    """
    if "PixelData" not in ds:
        raise UnusableError("The instance has no Pixel Data (7FE0,0010).")
    syntax = getattr(ds, "file_meta", Dataset()).get("TransferSyntaxUID")
    if not syntax:
        raise UnusableError(
            "Transfer Syntax UID (0002,0010) is missing; without it the pixels cannot be read."
        )
    layout = Layout(
        syntax=UID(syntax),
        rows=_integer(ds, "Rows"),
        columns=_integer(ds, "Columns"),
        frames=_integer(ds, "NumberOfFrames", 1),
        bits_allocated=_integer(ds, "BitsAllocated"),
        bits_stored=_integer(ds, "BitsStored"),
        high_bit=_integer(ds, "HighBit"),
        signed=_integer(ds, "PixelRepresentation") == 1,
    )
    _check_size(layout)
    _check_bits(layout)
    _check_growth(layout, len(ds.PixelData or b""))
    if not 1 <= frame <= layout.frames:
        raise UnusableError(f"Frame {frame} was asked of an image that has {layout.frames}.")
    samples = _integer(ds, "SamplesPerPixel", 1)
    if samples != 1:
        raise UnusableError(f"A CT image has 1 sample a pixel; Samples per Pixel (0028,0002) is {samples}.")
    return layout


def _integer(ds: Dataset, keyword: str, default: int | None = None) -> int:
    value = ds.get(keyword)
    if value in (None, ""):
        if default is None:
            raise UnusableError(f"{keyword} is missing or empty; without it the pixels cannot be read.")
        return default
    return int(value)


def _check_size(layout: Layout) -> None:
    if not (1 <= layout.rows <= MAX_SIDE and 1 <= layout.columns <= MAX_SIDE):
        raise UnusableError(
            f"Rows x Columns is {layout.rows} x {layout.columns}; each must lie in 1 to {MAX_SIDE}."
        )
    if not 1 <= layout.frames <= MAX_FRAMES:
        raise UnusableError(f"Number of Frames is {layout.frames}; it must lie in 1 to {MAX_FRAMES}.")


def _check_growth(layout: Layout, packed: int) -> None:
    size = layout.rows * layout.columns * layout.frames * (layout.bits_allocated // 8)
    if layout.syntax.is_encapsulated and size > may_grow_to(packed):
        raise UnusableError(
            f"{packed} bytes of Pixel Data would grow to {size}, which no scanner's image does."
        )


def _check_bits(layout: Layout) -> None:
    if layout.bits_allocated not in _NATIVE_TYPES:
        raise UnusableError(f"Bits Allocated is {layout.bits_allocated}; CT has 8, 16 or 32.")
    if not layout.bits_stored <= layout.high_bit + 1 <= layout.bits_allocated or layout.bits_stored < 1:
        raise UnusableError(
            f"Bits Stored {layout.bits_stored} and High Bit {layout.high_bit} do not fit "
            f"Bits Allocated {layout.bits_allocated}."
        )


def _native(ds: Dataset, layout: Layout, frame: int) -> NDArray[Any]:
    order = ">" if layout.syntax == ExplicitVRBigEndian else "<"
    kind = np.dtype(order + _NATIVE_TYPES[layout.bits_allocated])
    count = layout.rows * layout.columns
    start = (frame - 1) * count * kind.itemsize
    available = len(ds.PixelData) - start
    if available < count * kind.itemsize:
        raise UnusableError(
            f"Frame {frame} needs {count * kind.itemsize} bytes of Pixel Data; {max(available, 0)} are there."
        )
    return np.frombuffer(ds.PixelData, kind, count, start).reshape(layout.rows, layout.columns)


def _fragments(ds: Dataset, layout: Layout, frame: int) -> bytes:
    if layout.syntax != RLELossless and layout.syntax not in _CODECS:
        raise UnusableError(
            f"Transfer syntax {layout.syntax} ({layout.syntax.name}) is retired or not one of CT; "
            "have the sender use another."
        )
    offsets = _extended_offsets(ds)
    return get_frame(ds.PixelData, frame - 1, number_of_frames=layout.frames, extended_offsets=offsets)


def _decompress(data: bytes, layout: Layout) -> RawFrame:
    shape = (layout.rows, layout.columns)
    if layout.syntax == RLELossless:
        return RawFrame(_run_lengths(data, layout), layout)
    decode, read = _CODECS[layout.syntax]
    header = read(data)
    _same_shape((header.rows, header.columns), shape)
    values = decode(data)
    _same_shape(values.shape, shape)
    # A codestream of fewer bits than the attributes say carries the sign in its own top bit.
    high_bit = min(layout.high_bit, header.precision - 1)
    bits_stored = min(layout.bits_stored, header.precision)
    return RawFrame(values, replace(layout, high_bit=high_bit, bits_stored=bits_stored))


def _run_lengths(data: bytes, layout: Layout) -> NDArray[Any]:
    kind = np.dtype("<" + _NATIVE_TYPES[layout.bits_allocated])
    # The size is ours, not the stream's: a damaged one fills less or is refused, never more.
    out = bytearray(layout.rows * layout.columns * kind.itemsize)
    imagecodecs.dicomrle_decode(data, kind, out=out)
    return np.frombuffer(out, kind).reshape(layout.rows, layout.columns)


def _extended_offsets(ds: Dataset) -> tuple[bytes, bytes] | None:
    if "ExtendedOffsetTable" not in ds or "ExtendedOffsetTableLengths" not in ds:
        return None
    return ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths


def _same_shape(found: tuple[int, ...], expected: tuple[int, int]) -> None:
    if found != expected:
        raise UnusableError(f"The compressed frame has the shape {found}; Rows and Columns say {expected}.")


def _with_sign(values: NDArray[Any], layout: Layout) -> Stored:
    """Drop the bits that are not stored and extend the sign."""
    stored = values.astype(np.int32)
    # In place: fresh memory costs more than the arithmetic.
    bits = stored if layout.signed else stored.view(np.uint32)
    bits <<= 31 - layout.high_bit
    bits >>= 32 - layout.bits_stored
    return stored
