"""DIMSE command sets: an exact codec of group 0000, and the statuses we answer with.

A command set is always Implicit VR Little Endian. Source: PS3.7 6.3.1 and E.1.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from daemon.receiver.pdu import ProtocolError, printable

NO_DATA_SET: Final = 0x0101  # Command Data Set Type (0000,0800), PS3.7 E.1
_RESPONSE_BIT: Final = 0x8000
_ELEMENT: Final = struct.Struct("<HHI")
_US: Final = struct.Struct("<H")
_COMMENT_BYTES: Final = 64  # Error Comment is an LO


class CommandField(IntEnum):
    """Source: PS3.7 Table E.1-1, Command Field (0000,0100)."""

    C_STORE_RQ = 0x0001
    C_ECHO_RQ = 0x0030
    C_CANCEL_RQ = 0x0FFF


class Element(IntEnum):
    """Element numbers in group 0000. Source: PS3.7 Table E.1-1."""

    COMMAND_GROUP_LENGTH = 0x0000
    AFFECTED_SOP_CLASS_UID = 0x0002
    COMMAND_FIELD = 0x0100
    MESSAGE_ID = 0x0110
    MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
    COMMAND_DATA_SET_TYPE = 0x0800
    STATUS = 0x0900
    ERROR_COMMENT = 0x0902
    AFFECTED_SOP_INSTANCE_UID = 0x1000


class Status(IntEnum):
    """What we answer. Source: PS3.4 Table B.2-1 for C-STORE, PS3.7 C for the others."""

    SUCCESS = 0x0000
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    UNRECOGNIZED_OPERATION = 0x0211
    OUT_OF_RESOURCES = 0xA700
    CANNOT_UNDERSTAND = 0xC000


@dataclass(frozen=True)
class Outcome:
    """How an operation ended; the comment is for the peer's operator."""

    status: Status
    comment: str = ""


@dataclass(frozen=True)
class Request:
    """One request as it came: UIDs are the peer's bytes, for they are sent back as they are."""

    command_field: int
    message_id: int
    sop_class_uid: bytes | None
    sop_instance_uid: bytes | None
    has_data_set: bool

    @property
    def is_response(self) -> bool:
        """Whether the peer answers something that we never asked."""
        return bool(self.command_field & _RESPONSE_BIT)

    @property
    def name(self) -> str:
        """The command's name, for the log."""
        known = self.command_field in CommandField.__members__.values()
        return CommandField(self.command_field).name if known else f"{self.command_field:#06x}"


def decode_request(command_set: bytes) -> Request:
    """Decode a whole command set.

    Raises:
        ProtocolError: It is damaged, or lacks what every request has.
    """
    values = _decode_elements(command_set)
    command_field = _unsigned_short(values, Element.COMMAND_FIELD)
    # A C-CANCEL-RQ carries no Message ID of its own (PS3.7 9.3.2.3).
    cancels = command_field == CommandField.C_CANCEL_RQ
    return Request(
        command_field=command_field,
        message_id=0 if cancels else _unsigned_short(values, _message_id_element(command_field)),
        sop_class_uid=values.get(Element.AFFECTED_SOP_CLASS_UID),
        sop_instance_uid=values.get(Element.AFFECTED_SOP_INSTANCE_UID),
        has_data_set=_unsigned_short(values, Element.COMMAND_DATA_SET_TYPE) != NO_DATA_SET,
    )


def encode_response(request: Request, outcome: Outcome) -> bytes:
    """Return the command set of the answer to `request`.

    Source: PS3.7 Table 9.3-2, C-STORE-RSP, and 9.3-13, C-ECHO-RSP.
    """
    elements = []
    if request.sop_class_uid is not None:
        elements.append((Element.AFFECTED_SOP_CLASS_UID, request.sop_class_uid))
    elements += [
        (Element.COMMAND_FIELD, _US.pack(request.command_field | _RESPONSE_BIT)),
        (Element.MESSAGE_ID_BEING_RESPONDED_TO, _US.pack(request.message_id)),
        (Element.COMMAND_DATA_SET_TYPE, _US.pack(NO_DATA_SET)),
        (Element.STATUS, _US.pack(outcome.status)),
    ]
    if outcome.comment:
        elements.append((Element.ERROR_COMMENT, outcome.comment.encode("ascii", "replace")[:_COMMENT_BYTES]))
    if request.sop_instance_uid is not None:
        elements.append((Element.AFFECTED_SOP_INSTANCE_UID, request.sop_instance_uid))
    body = b"".join(_encode_element(element, value) for element, value in elements)
    return _encode_element(Element.COMMAND_GROUP_LENGTH, struct.pack("<I", len(body))) + body


def _decode_elements(command_set: bytes) -> dict[int, bytes]:
    values, position = {}, 0
    while position < len(command_set):
        if len(command_set) - position < _ELEMENT.size:
            raise ProtocolError("A command set ends within an element.")
        group, element, length = _ELEMENT.unpack_from(command_set, position)
        position += _ELEMENT.size
        if group != 0 or length > len(command_set) - position:
            raise ProtocolError(f"A command set is damaged at ({group:04X},{element:04X}).")
        values[element] = command_set[position : position + length]
        position += length
    return values


def _unsigned_short(values: dict[int, bytes], element: Element) -> int:
    value = values.get(element, b"")
    if len(value) != _US.size:
        raise ProtocolError(f"A command set lacks {element.name} (0000,{element:04X}), or it is no US.")
    number: int = _US.unpack(value)[0]
    return number


def _message_id_element(command_field: int) -> Element:
    responds = command_field & _RESPONSE_BIT
    return Element.MESSAGE_ID_BEING_RESPONDED_TO if responds else Element.MESSAGE_ID


def _encode_element(element: Element, value: bytes) -> bytes:
    padded = value + b"\0" * (len(value) % 2)
    return _ELEMENT.pack(0, element, len(padded)) + padded


def uid_text(value: bytes | None) -> str:
    """Return a UID of a command set as text that is safe in a log line and a file."""
    return printable(value or b"")
