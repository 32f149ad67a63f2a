"""A gray slice as the bytes of a picture file."""

from io import BytesIO

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
