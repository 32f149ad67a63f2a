"""The File Meta group in front of a data set that is kept as it came.

Source: PS3.10 7.1, Table 7.1-1. Always Explicit VR Little Endian.
"""

import struct
from dataclasses import dataclass
from typing import Final

from lungnode import __version__

# 2.25 and a UUID (PS3.5 B.2), drawn once for Lungnode's receiver.
IMPLEMENTATION_CLASS_UID: Final = "2.25.247535955791419130471908879405791920027"
IMPLEMENTATION_VERSION_NAME: Final = f"LUNGNODE_{__version__}"[:16]
_PREAMBLE: Final = bytes(128) + b"DICM"
_SHORT: Final = struct.Struct("<HH2sH")
_LONG: Final = struct.Struct("<HH2sxxI")


@dataclass(frozen=True)
class Origin:
    """Who sent an instance to whom."""

    calling_ae_title: str
    called_ae_title: str


def encode_file_meta(
    sop_class_uid: bytes, sop_instance_uid: bytes, transfer_syntax_uid: str, origin: Origin
) -> bytes:
    """Return preamble, prefix and File Meta group.

    The UIDs are the bytes of the C-STORE-RQ: also odd ones are kept, for the instance is.
    """
    elements = b"".join(
        (
            _LONG.pack(2, 0x0001, b"OB", 2) + b"\x00\x01",  # File Meta Information Version
            _element(0x0002, b"UI", sop_class_uid),  # Media Storage SOP Class UID
            _element(0x0003, b"UI", sop_instance_uid),  # Media Storage SOP Instance UID
            _element(0x0010, b"UI", transfer_syntax_uid.encode("ascii")),
            _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii")),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii")),
            _element(0x0016, b"AE", origin.calling_ae_title.encode("ascii")),  # Source AE Title
            _element(0x0018, b"AE", origin.called_ae_title.encode("ascii")),  # Receiving AE Title
        )
    )
    return _PREAMBLE + _element(0x0000, b"UL", struct.pack("<I", len(elements))) + elements


def _element(element: int, vr: bytes, value: bytes) -> bytes:
    # Source: PS3.5 6.2: UI is padded with NUL, text with a space.
    padding = b"\0" if vr == b"UI" else b" "
    padded = value + padding * (len(value) % 2)
    return _SHORT.pack(2, element, vr, len(padded)) + padded
