"""What a compressed frame says of itself, read without decoding it.

A codec allocates what the codestream claims, not what Rows and Columns say, so the two are compared first.
"""

import struct
from dataclasses import dataclass
from typing import Final

from lungnode.errors import UnusableError

# Source: ITU-T T.81 Table B.1 (start of frame; C4, C8 and CC are other markers) and T.87 (F7, JPEG-LS).
_START_OF_FRAME: Final = (*(set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}), 0xF7)
_PREFIX: Final = 0xFF  # before every marker; repeated, it only fills
_WITHOUT_LENGTH: Final = (0x01, 0xD8, *range(0xD0, 0xD8))  # TEM, SOI, restarts
_END: Final = b"\xff\xd9"  # EOI of JPEG, EOC of JPEG 2000
_TAIL: Final = 64  # bytes that writers have been seen to pad a fragment with; the Standard allows one
_START_2000: Final = b"\xff\x4f\xff\x51"  # SOC, SIZ
_SIZ_BYTES: Final = 45  # from SOC to the first component's precision


@dataclass(frozen=True)
class Codestream:
    """The header of one compressed frame."""

    rows: int
    columns: int
    precision: int  # bits a sample


def read_jpeg(data: bytes) -> Codestream:
    """Read the header of a JPEG or JPEG-LS frame.

    Raises:
        UnusableError: No start of frame, or no end of image: the frame is damaged or truncated.
    """
    if not data.startswith(b"\xff\xd8"):
        raise UnusableError(f"A JPEG frame must start with ff d8, got {data[:2].hex(' ') or 'nothing'}.")
    if _END not in data[-_TAIL:]:
        raise UnusableError("The JPEG frame has no end of image (ff d9): it is truncated.")
    position = 0
    while position + 9 <= len(data) and data[position] == _PREFIX:
        marker = data[position + 1]
        if marker in _START_OF_FRAME:
            precision, rows, columns = struct.unpack_from(">BHH", data, position + 4)
            return Codestream(rows, columns, precision)
        position += _segment_length(data, position, marker)
    raise UnusableError("The JPEG frame has no start of frame: it is damaged.")


def _segment_length(data: bytes, position: int, marker: int) -> int:
    if marker == _PREFIX:
        return 1
    if marker in _WITHOUT_LENGTH:
        return 2
    return 2 + int.from_bytes(data[position + 2 : position + 4], "big")


def read_jpeg2000(data: bytes) -> Codestream:
    """Read the header of a JPEG 2000 or HTJ2K frame.

    Raises:
        UnusableError: No codestream header, or no end of codestream.

    Source: ITU-T T.800 A.5.1, SIZ.
    """
    start = data.find(_START_2000, 0, 4096)  # some writers put a JP2 box before it, against PS3.5 A.4.4
    if start < 0 or len(data) < start + _SIZ_BYTES:
        raise UnusableError("The JPEG 2000 frame has no SIZ header: it is damaged.")
    if _END not in data[-_TAIL:]:
        raise UnusableError("The JPEG 2000 frame has no end of codestream (ff d9): it is truncated.")
    width, height, left, top = struct.unpack_from(">IIII", data, start + 8)
    depth = data[start + 42]  # the top bit is the sign
    return Codestream(height - top, width - left, (depth & 0x7F) + 1)
