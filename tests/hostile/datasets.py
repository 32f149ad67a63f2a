"""Damaged DICOM files: real ones and phantoms, with damage in the File Meta group, the header or anywhere."""

import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from tests.hostile.mutation import Chance, chance_of, damage

_META_START: Final = 132  # preamble and prefix. Source: PS3.10 7.1
_PIXEL_DATA: Final = b"\xe0\x7f\x10\x00"
_KEPT_PIXELS: Final = 2_048  # bytes; the rest of a slice only costs time
_DEEP: Final = 3_000
_HUGE: Final = (0xFFFFFFFE, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000)
_VRS: Final = (
    b"UI",
    b"LO",
    b"PN",
    b"DS",
    b"IS",
    b"SQ",
    b"UN",
    b"OB",
    b"OW",
    b"UT",
    b"AT",
    b"FD",
    b"ZZ",
    b"\0\0",
)
_SHORT: Final = struct.Struct("<HH2sH")
_LONG: Final = struct.Struct("<HH2sxxI")
_CHARACTER_SETS: Final = (
    b"ISO_IR 192",
    b"\\ISO 2022 IR 87",
    b"ISO 2022 IR 149",
    b"GB18030",
    b"x" * 40,
    b"\xff",
)


def seeds_from(paths: Iterable[Path]) -> list[bytes]:
    """Read files to be damaged; of pixels that are not compressed, few are kept."""
    return [_shortened(path.read_bytes()) for path in sorted(paths)]


def _shortened(content: bytes) -> bytes:
    start = content.find(_PIXEL_DATA)
    is_native = content[start + 8 : start + 12] != b"\xff\xff\xff\xff"
    return content[: start + _KEPT_PIXELS] if start > 0 and is_native else content


def damaged(seeds: list[bytes], seed: int, number: int) -> bytes:
    """Return one case."""
    chance = chance_of(seed, number)
    content = chance.choice(seeds)
    return chance.choice(_KINDS)(content, chance)


def _in_meta(content: bytes, chance: Chance) -> bytes:
    end = _data_set_start(content)
    return (
        content[:_META_START] + damage(content[_META_START:end], chance, chance.randint(1, 3)) + content[end:]
    )


def _in_header(content: bytes, chance: Chance) -> bytes:
    start = _data_set_start(content)
    end = content.find(_PIXEL_DATA, start)
    end = len(content) if end < 0 else end
    return content[:start] + damage(content[start:end], chance, chance.randint(1, 4)) + content[end:]


def _in_pixels(content: bytes, chance: Chance) -> bytes:
    start = content.find(_PIXEL_DATA) + 12
    size = chance.choice((200, 4_000, len(content)))  # where a codestream says what it is, mostly
    end = start + size
    return content[:start] + damage(content[start:end], chance, chance.randint(1, 3)) + content[end:]


def _anywhere(content: bytes, chance: Chance) -> bytes:
    return damage(content, chance, chance.randint(1, 6))


def _with_odd_element(content: bytes, chance: Chance) -> bytes:
    """Put an element that lies about itself behind the File Meta group."""
    start = _data_set_start(content)
    return content[:start] + chance.choice(_ODD)(chance) + content[start:]


def _huge_length(chance: Chance) -> bytes:
    vr = chance.choice((b"OB", b"OW", b"UN", b"UT", b"SQ"))
    return _LONG.pack(0x0008, chance.choice((0x0001, 0x0005, 0x1140)), vr, chance.choice(_HUGE)) + b"x" * 20


def _deep_sequence(chance: Chance) -> bytes:
    undefined = chance.random() < 0.5
    opening = _LONG.pack(0x0008, 0x1140, b"SQ", 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    if undefined:
        return opening * chance.randint(1, _DEEP)
    inner = b""
    for _ in range(chance.randint(1, 300)):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
        inner = _LONG.pack(0x0008, 0x1140, b"SQ", len(item)) + item
    return inner


def _many_items(chance: Chance) -> bytes:
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * chance.randint(1, 20_000)
    return _LONG.pack(0x0008, 0x1140, b"SQ", len(items)) + items


def _wrong_representation(chance: Chance) -> bytes:
    value = chance.randbytes(chance.randrange(40))
    group, element = chance.choice(((0x0008, 0x0018), (0x0010, 0x0010), (0x0020, 0x0032), (0x0028, 0x0010)))
    return _SHORT.pack(group, element, chance.choice(_VRS), len(value)) + value


def _character_set(chance: Chance) -> bytes:
    name, value = chance.choice(_CHARACTER_SETS), chance.randbytes(30)
    return (
        _SHORT.pack(0x0008, 0x0005, b"CS", len(name))
        + name
        + _SHORT.pack(0x0010, 0x0010, b"PN", len(value))
        + value
    )


def _long_text(chance: Chance) -> bytes:
    value = chance.choice((b"9", b"1.", b"\\", b"^", b"\x1b$B", b"A")) * chance.randint(1, 30_000)
    vr = chance.choice((b"IS", b"DS", b"LO", b"PN", b"UI", b"DA"))
    value = value[:65_534]
    return (
        _SHORT.pack(*chance.choice(((0x0020, 0x0013), (0x0010, 0x0020), (0x0020, 0x000D))), vr, len(value))
        + value
    )


_ODD: Final[tuple[Callable[[Chance], bytes], ...]] = (
    _huge_length,
    _deep_sequence,
    _many_items,
    _wrong_representation,
    _character_set,
    _long_text,
)
_KINDS: Final[tuple[Callable[[bytes, Chance], bytes], ...]] = (
    _in_meta,
    _in_header,
    _in_header,
    _in_header,
    _in_pixels,
    _in_pixels,
    _anywhere,
    _with_odd_element,
)


def _data_set_start(content: bytes) -> int:
    """Return where the File Meta group ends, as its length says; a damaged seed has one anywhere."""
    end = _META_START + 12 + int.from_bytes(content[140:144], "little")
    return min(max(end, _META_START), len(content))
