"""A-ASSOCIATE-RQ to values, and an A-ASSOCIATE-AC from the answer.

Decoded here rather than by pynetdicom's A_ASSOCIATE_RQ, which validates every UID and takes 5 ms for 128
contexts of four transfer syntaxes, as long as the whole set-up may take. The names are pynetdicom's, and the
tests hold the two against each other.

Source: PS3.8 9.3.2 and 9.3.3, PS3.7 D.3.3.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from daemon.receiver.pdu import PduType, ProtocolError, encode_header, printable
from lungnode.commitment import PUSH_MODEL

APPLICATION_CONTEXT_NAME: Final = "1.2.840.10008.3.1.1.1"  # PS3.7 A.2.1
MAX_REQUEST_BYTES: Final = 1 << 19  # 128 contexts of 60 transfer syntaxes each
_PROTOCOL_VERSION: Final = 1
_FIXED: Final = struct.Struct(">H2x16s16s32s")
_ITEM: Final = struct.Struct(">BxH")


class ItemType(IntEnum):
    """Source: PS3.8 9.3.2 and 9.3.3, PS3.7 D.3.3."""

    APPLICATION_CONTEXT = 0x10
    PRESENTATION_CONTEXT_RQ = 0x20
    PRESENTATION_CONTEXT_AC = 0x21
    ABSTRACT_SYNTAX = 0x30
    TRANSFER_SYNTAX = 0x40
    USER_INFORMATION = 0x50
    MAXIMUM_LENGTH = 0x51
    IMPLEMENTATION_CLASS_UID = 0x52
    ROLE_SELECTION = 0x54
    IMPLEMENTATION_VERSION_NAME = 0x55


class ContextResult(IntEnum):
    """Source: PS3.8 Table 9-18, Result/Reason."""

    ACCEPTANCE = 0
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


@dataclass(frozen=True)
class ProposedContext:
    """One presentation context as the peer proposes it."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True)
class NegotiatedContext:
    """One presentation context as we answer it; the transfer syntax means nothing unless accepted."""

    context_id: int
    result: ContextResult
    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True)
class RoleSelection:
    """Which roles the requestor proposes for a SOP class. Source: PS3.7 D.3.3.4."""

    sop_class_uid: str
    is_scu: bool
    is_scp: bool


@dataclass(frozen=True)
class AssociateRequest:
    """What an A-ASSOCIATE-RQ says; windows and identities beyond it are left at their defaults."""

    protocol_version: int
    called_ae_title: str
    calling_ae_title: str
    echoed: bytes  # the 64 bytes that an A-ASSOCIATE-AC sends back as they came
    application_context_name: str
    contexts: tuple[ProposedContext, ...]
    maximum_length: int  # of the P-DATA-TF PDUs that the peer receives; 0: no limit
    implementation: str  # version name, else class UID; for the log
    roles: tuple[RoleSelection, ...] = ()

    @property
    def version_supported(self) -> bool:
        """Whether the peer speaks version 1. Source: PS3.8 Table 9-11: only bit 0 is tested."""
        return bool(self.protocol_version & _PROTOCOL_VERSION)


def decode_request(body: bytes) -> AssociateRequest:
    """Decode the body of an A-ASSOCIATE-RQ.

    Raises:
        ProtocolError: A length is wrong, or a context is unusable.
    """
    if len(body) < _FIXED.size:
        raise ProtocolError(f"An A-ASSOCIATE-RQ has at least {_FIXED.size} bytes, this one {len(body)}.")
    version, called, calling, _ = _FIXED.unpack_from(body)
    application_context, contexts, user_information = "", [], b""
    for item_type, value in _items(body[_FIXED.size :]):
        if item_type == ItemType.APPLICATION_CONTEXT:
            application_context = _uid(value)
        elif item_type == ItemType.PRESENTATION_CONTEXT_RQ:
            contexts.append(_decode_context(value))
        elif item_type == ItemType.USER_INFORMATION:
            user_information = value
    _check_ids([context.context_id for context in contexts])
    maximum_length, implementation = _decode_user_information(user_information)
    return AssociateRequest(
        protocol_version=version,
        called_ae_title=printable(called),
        calling_ae_title=printable(calling),
        echoed=bytes(body[4 : _FIXED.size]),
        application_context_name=application_context,
        contexts=tuple(contexts),
        maximum_length=maximum_length,
        implementation=implementation,
        roles=_decode_roles(user_information),
    )


def encode_accept(
    request: AssociateRequest,
    contexts: tuple[NegotiatedContext, ...],
    maximum_length: int,
    implementation: tuple[str, str],
) -> bytes:
    """Return the A-ASSOCIATE-AC; `implementation` is our class UID and version name.

    Proposed roles are accepted for Storage Commitment, where we are SCP for requests and SCU for reports; for
    all else the defaults hold.

    Source: PS3.8 Table 9-17, PS3.7 D.3.3.4, PS3.4 J.3.1.
    """
    class_uid, version_name = implementation
    user_information = (
        _item(ItemType.MAXIMUM_LENGTH, struct.pack(">I", maximum_length))
        + _item(ItemType.IMPLEMENTATION_CLASS_UID, class_uid.encode("ascii"))
        + b"".join(_encode_role(role) for role in request.roles if role.sop_class_uid == PUSH_MODEL)
        + _item(ItemType.IMPLEMENTATION_VERSION_NAME, version_name.encode("ascii"))
    )
    body = b"".join(
        (
            struct.pack(">H2x", _PROTOCOL_VERSION),
            request.echoed,
            _item(ItemType.APPLICATION_CONTEXT, APPLICATION_CONTEXT_NAME.encode("ascii")),
            *(_encode_context(context) for context in contexts),
            _item(ItemType.USER_INFORMATION, user_information),
        )
    )
    return encode_header(PduType.A_ASSOCIATE_AC, len(body)) + body


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        if len(data) - position < _ITEM.size:
            raise ProtocolError(f"An item of an A-ASSOCIATE-RQ ends within its header, at byte {position}.")
        item_type, length = _ITEM.unpack_from(data, position)
        position += _ITEM.size
        if length > len(data) - position:
            raise ProtocolError(f"Item {item_type:#04x} of an A-ASSOCIATE-RQ is longer than what holds it.")
        yield item_type, data[position : position + length]
        position += length


def _decode_context(value: bytes) -> ProposedContext:
    if len(value) < 4:  # noqa: PLR2004 - the ID and three reserved bytes
        raise ProtocolError("A presentation context is shorter than its fixed fields.")
    abstract_syntax, transfer_syntaxes = "", []
    for item_type, uid in _items(value[4:]):
        if item_type == ItemType.ABSTRACT_SYNTAX:
            abstract_syntax = _uid(uid)
        elif item_type == ItemType.TRANSFER_SYNTAX:
            transfer_syntaxes.append(_uid(uid))
    if not abstract_syntax or not transfer_syntaxes:
        raise ProtocolError(f"Presentation context {value[0]} lacks its abstract or its transfer syntax.")
    return ProposedContext(value[0], abstract_syntax, tuple(transfer_syntaxes))


def _check_ids(context_ids: list[int]) -> None:
    # Source: PS3.8 Table 9-13: odd, 1 to 255; the same one twice could not be told apart.
    for context_id in context_ids:
        if context_id % 2 == 0:
            raise ProtocolError(f"A presentation context ID must be odd, got {context_id}.")
    if len(set(context_ids)) < len(context_ids):
        raise ProtocolError("Two presentation contexts have the same ID.")


def _decode_user_information(value: bytes) -> tuple[int, str]:
    found = dict(_items(value))
    length = found.get(ItemType.MAXIMUM_LENGTH, bytes(4))
    if len(length) != 4:  # noqa: PLR2004 - PS3.8 Table D.1-1
        raise ProtocolError(f"The maximum length has four bytes, this one {len(length)}.")
    name = found.get(ItemType.IMPLEMENTATION_VERSION_NAME) or found.get(
        ItemType.IMPLEMENTATION_CLASS_UID, b""
    )
    return int.from_bytes(length, "big"), printable(name)


def _decode_roles(value: bytes) -> tuple[RoleSelection, ...]:
    return tuple(
        _decode_role(role) for item_type, role in _items(value) if item_type == ItemType.ROLE_SELECTION
    )


def _decode_role(value: bytes) -> RoleSelection:
    # Source: PS3.7 Table D.3-9: the UID with its length, then one byte for each role.
    length = int.from_bytes(value[:2], "big")
    if len(value) != 2 + length + 2:
        raise ProtocolError("A role selection item has a wrong length.")
    return RoleSelection(_uid(value[2:-2]), bool(value[-2]), bool(value[-1]))


def _encode_role(role: RoleSelection) -> bytes:
    uid = role.sop_class_uid.encode("ascii")
    roles = bytes((role.is_scu, role.is_scp))
    return _item(ItemType.ROLE_SELECTION, struct.pack(">H", len(uid)) + uid + roles)


def _uid(value: bytes) -> str:
    # Source: PS3.8 F: not padded; some peers pad nevertheless.
    return printable(value)


def _item(item_type: ItemType, value: bytes) -> bytes:
    return _ITEM.pack(item_type, len(value)) + value


def _encode_context(context: NegotiatedContext) -> bytes:
    transfer_syntax = _item(ItemType.TRANSFER_SYNTAX, context.transfer_syntax.encode("latin-1"))
    fixed = struct.pack(">BxBx", context.context_id, context.result)
    return _item(ItemType.PRESENTATION_CONTEXT_AC, fixed + transfer_syntax)
