"""RLE Lossless, the one compression that every peer which decodes anything decodes.

Source: PS3.5 Annex G. pydicom's own encoder takes half a second for a colour
slice, the codec here a hundredth of that.
"""

import struct
from typing import Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from lungnode.heatmap import Color

HEADER_BYTES: Final = 64  # G.5: the number of segments and 15 offsets


def encode_rle(image: Color) -> bytes:
    """Return one frame as RLE segments: all of red, then green, then blue."""
    segments = [_segment(image[:, :, channel]) for channel in range(image.shape[2])]
    starts = np.cumsum([HEADER_BYTES, *(len(segment) for segment in segments[:-1])]).tolist()
    offsets = starts + [0] * (15 - len(segments))
    return struct.pack("<16L", len(segments), *offsets) + b"".join(segments)


def _segment(plane: NDArray[np.uint8]) -> bytes:
    # G.3.1: each row is encoded for itself; G.4.1: a segment has an even number of bytes.
    packed = bytes(imagecodecs.packbits_encode(np.ascontiguousarray(plane), axis=-1))
    return packed + b"\0" * (len(packed) % 2)


def rle_bound(rows: int, columns: int) -> int:
    """Return the most bytes that a colour frame can take: a byte more for each 128."""
    return HEADER_BYTES + 3 * (rows * (columns + -(-columns // 128)) + 1)
