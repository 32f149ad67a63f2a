"""Synthetic CT instances of a scanner's size, and copies of one under fresh UIDs."""

import random
import struct
from typing import Final

from tests.dicom_wire import CT_IMAGE_STORAGE, EXPLICIT_VR_LITTLE_ENDIAN, Instance

ROWS: Final = 512
COLUMNS: Final = 512
_UID_DIGITS: Final = 10  # replaced by a running number, so that every instance sent is a new one
_PLACEHOLDER: Final = "9" * _UID_DIGITS
_SOP_INSTANCE_UID: Final = f"1.2.826.0.1.3680043.10.999.{_PLACEHOLDER}"
_LONG_VRS: Final = frozenset({b"OB", b"OW"})


def make_instance() -> Instance:
    """Return a CT slice of 512 x 512 x 16 bit, explicit VR little endian, about 526 KB."""
    pixels = random.Random(0).randbytes(ROWS * COLUMNS * 2)  # noqa: S311 - incompressible, not secret
    elements = (
        (0x0008, 0x0016, b"UI", CT_IMAGE_STORAGE.encode()),
        (0x0008, 0x0018, b"UI", _SOP_INSTANCE_UID.encode()),
        (0x0008, 0x0020, b"DA", b"20260101"),
        (0x0008, 0x0060, b"CS", b"CT"),
        (0x0010, 0x0010, b"PN", b"Benchmark^Receive"),
        (0x0010, 0x0020, b"LO", b"BENCHMARK"),
        (0x0018, 0x0050, b"DS", b"1.0"),
        (0x0020, 0x000D, b"UI", b"1.2.826.0.1.3680043.10.999.1"),
        (0x0020, 0x000E, b"UI", b"1.2.826.0.1.3680043.10.999.1.1"),
        (0x0020, 0x0013, b"IS", b"1"),
        (0x0028, 0x0002, b"US", struct.pack("<H", 1)),
        (0x0028, 0x0004, b"CS", b"MONOCHROME2"),
        (0x0028, 0x0010, b"US", struct.pack("<H", ROWS)),
        (0x0028, 0x0011, b"US", struct.pack("<H", COLUMNS)),
        (0x0028, 0x0030, b"DS", b"0.7\\0.7"),
        (0x0028, 0x0100, b"US", struct.pack("<H", 16)),
        (0x0028, 0x0101, b"US", struct.pack("<H", 16)),
        (0x0028, 0x0102, b"US", struct.pack("<H", 15)),
        (0x0028, 0x0103, b"US", struct.pack("<H", 1)),
        (0x7FE0, 0x0010, b"OW", pixels),
    )
    data_set = b"".join(_element(*element) for element in elements)
    return Instance(CT_IMAGE_STORAGE, _SOP_INSTANCE_UID, EXPLICIT_VR_LITTLE_ENDIAN, data_set)


def renumber(instance: Instance, number: int) -> Instance:
    """Return a copy under a UID of its own."""
    digits = f"1{number:0{_UID_DIGITS - 1}d}"
    return Instance(
        instance.sop_class_uid,
        instance.sop_instance_uid.replace(_PLACEHOLDER, digits),
        instance.transfer_syntax_uid,
        instance.data_set.replace(_PLACEHOLDER.encode(), digits.encode(), 1),
    )


def encode_file(instance: Instance) -> bytes:
    """Return the instance as a DICOM file, for `storescu`."""
    group = b"".join(
        (
            _element(0x0002, 0x0001, b"OB", b"\x00\x01"),
            _element(0x0002, 0x0002, b"UI", instance.sop_class_uid.encode()),
            _element(0x0002, 0x0003, b"UI", instance.sop_instance_uid.encode()),
            _element(0x0002, 0x0010, b"UI", instance.transfer_syntax_uid.encode()),
            _element(0x0002, 0x0012, b"UI", b"1.2.826.0.1.3680043.10.999"),
        )
    )
    length = _element(0x0002, 0x0000, b"UL", struct.pack("<I", len(group)))
    return bytes(128) + b"DICM" + length + group + instance.data_set


def _element(group: int, element: int, vr: bytes, value: bytes) -> bytes:
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    if vr in _LONG_VRS:
        return struct.pack("<HH2sxxI", group, element, vr, len(value)) + value
    return struct.pack("<HH2sH", group, element, vr, len(value)) + value
