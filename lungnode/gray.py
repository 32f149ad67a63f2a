"""The 8-bit gray slice that every source comes down to, and how a JPEG or PNG becomes one."""

import warnings
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from lungnode.errors import UnusableError
from lungnode.untrusted import untrusted

Gray = NDArray[np.uint8]  # shape (rows, columns), lung window, 0 is black

MAX_PICTURE_PIXELS: Final = 50_000_000  # a scanner's slice has 0.3 million, a scanned film 10 million
MIN_PICTURE_SIDE: Final = 32  # below it nothing of a lung can be seen
_FORMATS: Final = ("JPEG", "PNG")
_DEEP_MODES: Final = ("I", "F")  # 16-bit and floating-point pixels: "I;16", "I;16B", "I", "F"


@dataclass(frozen=True)
class Box:
    """A part of a matrix: rows `top` to `bottom`, columns `left` to `right`, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int


def read_image(data: bytes) -> Gray:
    """Decode a JPEG or PNG picture of one slice, upright, as 8-bit gray.

    Colour becomes luma, transparency becomes black, EXIF orientation is applied.

    Raises:
        UnusableError: Not JPEG or PNG, damaged, truncated, too large, or deeper than 8 bits.
    """
    # Pillow's own limit only warns, and warns from 89 million pixels on: ours is checked first.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picture = _open(data)
        _check(picture, data)
        return _gray(picture)


def _open(data: bytes) -> ImageFile.ImageFile:
    try:
        return Image.open(BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise UnusableError(
            f"The picture is too large, at most {MAX_PICTURE_PIXELS:,} pixels are read: {error}"
        ) from error
    except Exception as error:  # untrusted bytes: Pillow raises far more than UnidentifiedImageError
        raise UnusableError(
            f"The picture is neither JPEG nor PNG: it starts with {data[:8].hex(' ') or 'nothing'}."
        ) from error


def _check(picture: ImageFile.ImageFile, data: bytes) -> None:
    columns, rows = picture.size
    if rows * columns > MAX_PICTURE_PIXELS:
        raise UnusableError(
            f"The picture has {columns} x {rows} pixels; at most {MAX_PICTURE_PIXELS:,} are read."
        )
    if min(rows, columns) < MIN_PICTURE_SIDE:
        raise UnusableError(
            f"The picture has {columns} x {rows} pixels; each side needs at least {MIN_PICTURE_SIDE}."
        )
    # Pillow opens 16-bit RGB as 8-bit RGB without a word, so the PNG header is asked: IHDR's bit depth.
    if picture.mode.startswith(_DEEP_MODES) or (picture.format == "PNG" and data[24:25] == b"\x10"):
        raise UnusableError(
            "The PNG has 16 bits a sample, whose window is unknown; export it with a lung window as 8 bits, "
            "or send the DICOM image."
        )


def _gray(picture: Image.Image) -> Gray:
    # Truncated and damaged streams are found here: Pillow decodes at the first access.
    with untrusted("The picture cannot be decoded; it is damaged or truncated"):
        upright = ImageOps.exif_transpose(picture)
        if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
            upright = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "black"), upright)
        if upright.mode == "CMYK":
            upright = upright.convert("RGB")
        return np.asarray(upright.convert("L"), dtype=np.uint8)
