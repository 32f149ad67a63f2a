"""A gray slice as the bytes of a picture file, and as they give it back."""

from io import BytesIO

import numpy as np
from PIL import Image

from lungnode.pixels import Gray


def encode_jpeg(image: Gray, quality: int) -> bytes:
    """Return a slice as an 8-bit gray JPEG file.

    Args:
        image: Shape (rows, columns).
        quality: 1 to 100, as in Pillow.
    """
    encoded = BytesIO()
    Image.fromarray(image).save(encoded, "JPEG", quality=quality)
    return encoded.getvalue()


def encode_png(image: Gray) -> bytes:
    """Return a slice as a PNG file: every gray value is kept."""
    encoded = BytesIO()
    Image.fromarray(image).save(encoded, "PNG")
    return encoded.getvalue()


def compress(image: Gray, quality: int) -> Gray:
    """Return the image as JPEG gives it back."""
    return np.asarray(Image.open(BytesIO(encode_jpeg(image, quality))), dtype=np.uint8)
