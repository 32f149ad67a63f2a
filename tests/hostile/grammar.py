"""What a hostile peer sends over one connection: well-formed PDUs, then one that is not.

Built from the grammar of PS3.8 9.3 and PS3.7 E.1, so that the damage sits deep, not only in the first byte.
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from tests.dicom_wire import (
    ABORT,
    CT_IMAGE_STORAGE,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    PUSH_MODEL,
    RELEASE_REQUEST,
    VERIFICATION,
    commitment_command,
    item,
    pdu,
    pdv,
)
from tests.hostile.mutation import Chance, chance_of, damage

_ROLE_SELECTION: Final = 0x54  # PS3.7 Table D.3-9
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
CONTEXTS: Final = (
    (1, CT_IMAGE_STORAGE, (EXPLICIT_VR_LITTLE_ENDIAN,)),
    (3, VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,)),
    (5, CT_IMAGE_STORAGE, (DEFLATED,)),
    (7, PUSH_MODEL, (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)),
    (9, "1.2.840.10008.5.1.4.1.2.2.1", (EXPLICIT_VR_LITTLE_ENDIAN,)),  # Study Root FIND: refused
)
# Source: PS3.7 Table E.1-1, Command Field.
_COMMAND_FIELDS: Final = (
    *(0x0001, 0x0010, 0x0020, 0x0021, 0x0030, 0x0FFF),
    *(0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150),
    *(0x8001, 0x8020, 0x8030, 0x8100, 0x8130, 0x0000, 0xFFFF),
)
_UIDS: Final = (
    *(b"1.2.3", b"", b"../../../etc/passwd", b"/etc/passwd", b"..", b"1.2.3/../../x", b"1" * 64, b"1." * 40),
    *(
        b"1.2.3\0",
        b"'; DROP TABLE studies; --",
        b"<script>alert(1)</script>",
        b"\xff\xfe\n\r\x1b[31m",
        b"%n%s",
    ),
)
_TITLES: Final = (
    b"TEST",
    b"",
    b"LUNGNODE",
    b"\0" * 16,
    b"A\\B",
    b"\x1b[2J\n",
    b"<b>",
    b"' OR 1=1",
    b"\xff" * 16,
)
_NOISE: Final = (
    b"GET / HTTP/1.1\r\nHost: lungnode\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(80),
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"\x00" * 64,
    b"\xff" * 64,
)


@dataclass(frozen=True)
class Attempt:
    """One connection: what is sent over it, of which the last PDU is the bad one."""

    before: bytes  # well-formed, empty where the bad one is the first
    bad: bytes
    is_associated: bool  # the bad one comes over an accepted association


def attempt(seed: int, number: int) -> Attempt:
    """Return one case; every second one begins with a good A-ASSOCIATE-RQ."""
    chance = chance_of(seed, number)
    if number % 2 == 0:
        return Attempt(b"", _first_pdu(chance), is_associated=False)
    before, bad = _later_pdu(chance)
    return Attempt(_request() + before, bad, is_associated=True)


def _first_pdu(chance: Chance) -> bytes:
    kind = chance.random()
    if kind < 0.05:
        return damage(chance.choice(_NOISE), chance)
    if kind < 0.15:
        return pdu(chance.choice((2, 3, 4, 5, 6, 7, 8, 0x16, 0xFF)), chance.randbytes(chance.randrange(40)))
    if kind < 0.25:
        return _with_length(pdu(1, _request_body(chance)), chance)
    if kind < 0.55:
        return pdu(1, damage(_request_body(chance), chance, chance.randint(1, 3)))
    return pdu(1, _request_body(chance, is_odd=True))


def _request() -> bytes:
    return pdu(1, _body(b"LUNGNODE", b"HOSTILE", 1, b"1.2.840.10008.3.1.1.1", _contexts(CONTEXTS)))


def _request_body(chance: Chance, *, is_odd: bool = False) -> bytes:
    """Return the body of an A-ASSOCIATE-RQ; an odd one is well-formed and has strange values."""
    if not is_odd:
        return _body(b"LUNGNODE", b"HOSTILE", 1, b"1.2.840.10008.3.1.1.1", _contexts(CONTEXTS))
    return _body(
        chance.choice((b"LUNGNODE", b"LUNGNODE", *_TITLES)),
        chance.choice(_TITLES),
        chance.choice((0, 1, 1, 2, 0xFFFF)),
        chance.choice((b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.3.1.1.1", *_UIDS)),
        b"".join(_odd_context(chance) for _ in range(chance.choice((0, 1, 2, 5, 128, 200)))),
        *(_odd_user_item(chance) for _ in range(chance.randrange(4))),
    )


def _body(called: bytes, calling: bytes, version: int, name: bytes, contexts: bytes, *user: bytes) -> bytes:
    fixed = struct.pack(">H2x16s16s32x", version, called.ljust(16)[:16], calling.ljust(16)[:16])
    told = item(0x51, struct.pack(">I", 16_384)) + item(0x52, b"1.2.3.4") + item(0x55, b"HOSTILE")
    return fixed + item(0x10, name) + contexts + item(0x50, told + b"".join(user))


def _contexts(contexts: Iterable[tuple[int, str, tuple[str, ...]]]) -> bytes:
    return b"".join(
        _context(context_id, uid.encode(), *(syntax.encode() for syntax in syntaxes))
        for context_id, uid, syntaxes in contexts
    )


def _context(context_id: int, abstract_syntax: bytes, *transfer_syntaxes: bytes) -> bytes:
    syntaxes = b"".join(item(0x40, uid) for uid in transfer_syntaxes)
    return item(0x20, struct.pack(">B3x", context_id) + item(0x30, abstract_syntax) + syntaxes)


def _odd_context(chance: Chance) -> bytes:
    uids = (CT_IMAGE_STORAGE.encode(), VERIFICATION.encode(), EXPLICIT_VR_LITTLE_ENDIAN.encode(), *_UIDS)
    syntaxes = [chance.choice(uids) for _ in range(chance.choice((0, 1, 1, 3, 60)))]
    return _context(chance.randrange(256), chance.choice(uids), *syntaxes)


def _odd_user_item(chance: Chance) -> bytes:
    """Return a sub-item of PS3.7 D.3.3, or one that is none."""
    kind = chance.choice((0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x00, 0xFF))
    if kind == _ROLE_SELECTION and chance.random() < 0.7:
        uid = chance.choice((PUSH_MODEL.encode(), CT_IMAGE_STORAGE.encode(), *_UIDS))
        return item(kind, struct.pack(">H", len(uid)) + uid + chance.choice((b"\0\1", b"\1\1", b"\xff\2")))
    return item(kind, chance.randbytes(chance.choice((0, 1, 2, 4, 4, 8, 100))))


def _later_pdu(chance: Chance) -> tuple[bytes, bytes]:
    """Return good PDUs that lead into a state, and the bad one that comes there."""
    before = chance.choice(_STATES)(chance)
    kind = chance.random()
    if kind < 0.1:
        return before, pdu(chance.choice((0, 1, 2, 3, 6, 8, 0x16)), chance.randbytes(chance.randrange(40)))
    if kind < 0.15:
        return before, damage(chance.choice((RELEASE_REQUEST, ABORT)), chance)
    if kind < 0.25:
        return before, _with_length(_data_pdu(chance), chance)
    if kind < 0.3:
        information = damage(_references(chance), chance, chance.randint(1, 3))
        return before, _commitment(
            is_report=chance.random() < 0.5, data_set=information, type_id=chance.choice((1, 1, 2, 0))
        )
    if kind < 0.4:
        return before, pdu(4, damage(_data_pdu(chance)[6:], chance, chance.randint(1, 3)))
    return before, pdu(4, b"".join(_odd_pdv(chance) for _ in range(chance.choice((1, 1, 2, 5)))))


def _nothing_yet(_: Chance) -> bytes:
    return b""


def _stored(chance: Chance) -> bytes:
    """Return an instance that is stored before things go wrong."""
    data = chance.randbytes(chance.randrange(200))
    return pdu(4, pdv(1, 3, _command(chance))) + pdu(4, pdv(1, 2, data))


def _echoed(chance: Chance) -> bytes:
    return pdu(4, pdv(3, 3, _command(chance, 0x0030, VERIFICATION.encode(), 0x0101)))


def _commitment_asked(chance: Chance) -> bytes:
    """Return a storage commitment request or report that is taken. Source: PS3.4 J.3.2 and J.3.3."""
    is_report = chance.random() < 0.3
    return _commitment(is_report=is_report, data_set=_references(chance))


def commitment_request(chance: Chance) -> bytes:
    """Return an N-ACTION-RQ that is taken, on context 7."""
    return _commitment(is_report=False, data_set=_references(chance, 1))


def _commitment(*, is_report: bool, data_set: bytes, type_id: int = 1) -> bytes:
    command = commitment_command(0x0100 if is_report else 0x0130, type_id=type_id)
    return pdu(4, pdv(7, 3, command)) + pdu(4, pdv(7, 2, data_set))


def _references(chance: Chance, count: int | None = None) -> bytes:
    """Return action information that names instances, explicit VR little endian."""
    items = b""
    for _ in range(chance.choice((0, 1, 1, 3)) if count is None else count):
        uids = _text(0x0008, 0x1150, CT_IMAGE_STORAGE.encode()) + _text(0x0008, 0x1155, b"1.2.3.4")
        items += struct.pack("<HHI", 0xFFFE, 0xE000, len(uids)) + uids
    sequence = struct.pack("<HH2sxxI", 0x0008, 0x1199, b"SQ", len(items)) + items
    return _text(0x0008, 0x1195, b"1.2.3.4.5") + sequence


def _text(group: int, element: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", group, element, b"UI", len(value)) + value


def _half_a_command(chance: Chance) -> bytes:
    if chance.random() < 0.05:
        return pdu(4, pdv(1, 1, bytes(60_000)))  # nearly all that a command may have
    return pdu(4, pdv(1, 1, _command(chance)[: chance.randrange(60)]))


def _a_command(chance: Chance) -> bytes:
    return pdu(4, pdv(1, 3, _command(chance)))


def _half_a_data_set(chance: Chance) -> bytes:
    return _a_command(chance) + pdu(4, pdv(1, 0, chance.randbytes(chance.randrange(400))))


_STATES: Final[tuple[Callable[[Chance], bytes], ...]] = (
    _nothing_yet,
    _nothing_yet,
    _stored,
    _echoed,
    _commitment_asked,
    _half_a_command,
    _a_command,
    _half_a_data_set,
)


def _data_pdu(chance: Chance) -> bytes:
    return chance.choice((_stored, _echoed, _a_command, _half_a_data_set, _commitment_asked))(chance)


def _odd_pdv(chance: Chance) -> bytes:
    context_id = chance.choice((1, 1, 1, 3, 5, 7, 9, 0, 2, 255))
    control = chance.choice((0, 1, 2, 3, 3, 3, 0x83, 0xFF))
    value = _odd_command(chance) if control & 1 else chance.randbytes(chance.randrange(300))
    made = pdv(context_id, control, value)
    if chance.random() < 0.1:
        made = chance.choice((0, 1, len(made) + 7, 0x7FFFFFFF, 0xFFFFFFFF)).to_bytes(4, "big") + made[4:]
    return made


def _odd_command(chance: Chance) -> bytes:
    """Return a command set with strange values, missing or repeated elements, or damage."""
    made = _command(
        chance,
        chance.choice((0x0001, 0x0130, chance.choice(_COMMAND_FIELDS))),
        chance.choice((CT_IMAGE_STORAGE.encode(), PUSH_MODEL.encode(), chance.choice(_UIDS))),
        chance.choice((0x0101, 0x0000, 0x0001, 0xFFFF)),
        chance.choice(_UIDS),
        drop=chance.choice((None, None, 0x0100, 0x0110, 0x0800, 0x0002, 0x1000)),
    )
    return damage(made, chance, chance.choice((0, 0, 1, 2)))


def _command(
    chance: Chance,
    command_field: int = 0x0001,
    sop_class_uid: bytes = CT_IMAGE_STORAGE.encode(),
    data_set_type: int = 1,
    sop_instance_uid: bytes = b"1.2.3.4",
    *,
    drop: int | None = None,
) -> bytes:
    """Return a command set; `drop` leaves an element out."""
    elements = (
        (0x0002, sop_class_uid),
        (0x0003, PUSH_MODEL.encode()),
        (0x0100, struct.pack("<H", command_field)),
        (0x0110, struct.pack("<H", chance.randrange(65_536))),
        (0x0120, struct.pack("<H", 1)),
        (0x0700, struct.pack("<H", 0)),
        (0x0800, struct.pack("<H", data_set_type)),
        (0x1000, sop_instance_uid),
        (0x1001, b"1.2.840.10008.1.20.1.1"),
        (0x1008, struct.pack("<H", chance.choice((0, 1, 2)))),
    )
    return _command_set((number, value) for number, value in elements if number != drop)


def _command_set(elements: Iterable[tuple[int, bytes]]) -> bytes:
    body = b"".join(_element(number, value) for number, value in elements)
    return _element(0, struct.pack("<I", len(body))) + body


def _element(number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, number, len(value)) + value


def _with_length(whole: bytes, chance: Chance) -> bytes:
    """Return a PDU that lies about its length."""
    length = chance.choice((0, 1, 5, len(whole) - 7, len(whole), 65_536, 1 << 20, 0x7FFFFFFF, 0xFFFFFFFF))
    return whole[:2] + struct.pack(">I", max(0, length)) + whole[6:]
