"""DIMSE command sets: an exact codec of group 0000, and the statuses we answer with.

A command set is always Implicit VR Little Endian. Source: PS3.7 6.3.1 and E.1.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from daemon.receiver.pdu import ProtocolError, printable
from lungnode.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE

NO_DATA_SET: Final = 0x0101  # Command Data Set Type (0000,0800), PS3.7 E.1
_A_DATA_SET: Final = 0x0001  # any other value
_RESPONSE_BIT: Final = 0x8000
_ELEMENT: Final = struct.Struct("<HHI")
_US: Final = struct.Struct("<H")
_COMMENT_BYTES: Final = 64  # Error Comment is an LO


class CommandField(IntEnum):
    """Source: PS3.7 Table E.1-1, Command Field (0000,0100)."""

    C_STORE_RQ = 0x0001
    C_ECHO_RQ = 0x0030
    N_EVENT_REPORT_RQ = 0x0100
    N_ACTION_RQ = 0x0130
    C_CANCEL_RQ = 0x0FFF


class Element(IntEnum):
    """Element numbers in group 0000. Source: PS3.7 Table E.1-1."""

    COMMAND_GROUP_LENGTH = 0x0000
    AFFECTED_SOP_CLASS_UID = 0x0002
    REQUESTED_SOP_CLASS_UID = 0x0003
    COMMAND_FIELD = 0x0100
    MESSAGE_ID = 0x0110
    MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
    COMMAND_DATA_SET_TYPE = 0x0800
    STATUS = 0x0900
    ERROR_COMMENT = 0x0902
    AFFECTED_SOP_INSTANCE_UID = 0x1000
    REQUESTED_SOP_INSTANCE_UID = 0x1001
    EVENT_TYPE_ID = 0x1002
    ACTION_TYPE_ID = 0x1008


# What a response repeats beside the UIDs.
_TYPE_ELEMENTS: Final[dict[int, Element]] = {
    CommandField.N_EVENT_REPORT_RQ: Element.EVENT_TYPE_ID,
    CommandField.N_ACTION_RQ: Element.ACTION_TYPE_ID,
}


class Status(IntEnum):
    """What we answer. Source: PS3.4 Table B.2-1 for C-STORE, PS3.7 C for the others."""

    SUCCESS = 0x0000
    NO_SUCH_SOP_INSTANCE = 0x0112
    NO_SUCH_EVENT_TYPE = 0x0113
    INVALID_ARGUMENT_VALUE = 0x0115
    NO_SUCH_SOP_CLASS = 0x0118
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NO_SUCH_ACTION_TYPE = 0x0123
    UNRECOGNIZED_OPERATION = 0x0211
    RESOURCE_LIMITATION = 0x0213
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
    type_id: bytes | None = None  # Event Type ID or Action Type ID
    status: int | None = None  # of a response

    @property
    def is_response(self) -> bool:
        """Whether the peer answers something that we never asked."""
        return bool(self.command_field & _RESPONSE_BIT)

    @property
    def is_event_report_answer(self) -> bool:
        """Whether the peer answers an N-EVENT-REPORT-RQ."""
        return self.command_field == CommandField.N_EVENT_REPORT_RQ | _RESPONSE_BIT

    @property
    def is_answered(self) -> bool:
        """Whether the peer waits for an answer: all is answered before the next command is read."""
        return not self.is_response and self.command_field != CommandField.C_CANCEL_RQ

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
        sop_class_uid=_either(values, Element.AFFECTED_SOP_CLASS_UID, Element.REQUESTED_SOP_CLASS_UID),
        sop_instance_uid=_either(
            values, Element.AFFECTED_SOP_INSTANCE_UID, Element.REQUESTED_SOP_INSTANCE_UID
        ),
        has_data_set=_unsigned_short(values, Element.COMMAND_DATA_SET_TYPE) != NO_DATA_SET,
        type_id=_either(values, Element.EVENT_TYPE_ID, Element.ACTION_TYPE_ID),
        status=_unsigned_short(values, Element.STATUS) if Element.STATUS in values else None,
    )


def encode_response(request: Request, outcome: Outcome) -> bytes:
    """Return the command set of the answer to `request`.

    Source: PS3.7 Table 9.3-2, C-STORE-RSP, 9.3-13, C-ECHO-RSP, 10.3-2, N-EVENT-REPORT-RSP, and 10.3-8,
    N-ACTION-RSP.
    """
    elements: list[tuple[Element, bytes]] = []
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
    if request.type_id is not None and request.command_field in _TYPE_ELEMENTS:
        elements.append((_TYPE_ELEMENTS[request.command_field], request.type_id))
    return _encode_command_set(elements)


def encode_event_report(message_id: int, event_type: int) -> bytes:
    """Return the command set of an N-EVENT-REPORT-RQ of storage commitment; a data set follows.

    Source: PS3.7 Table 10.3-1.
    """
    return _encode_command_set(
        (
            (Element.AFFECTED_SOP_CLASS_UID, PUSH_MODEL.encode("ascii")),
            (Element.COMMAND_FIELD, _US.pack(CommandField.N_EVENT_REPORT_RQ)),
            (Element.MESSAGE_ID, _US.pack(message_id)),
            (Element.COMMAND_DATA_SET_TYPE, _US.pack(_A_DATA_SET)),
            (Element.AFFECTED_SOP_INSTANCE_UID, PUSH_MODEL_INSTANCE.encode("ascii")),
            (Element.EVENT_TYPE_ID, _US.pack(event_type)),
        )
    )


def _encode_command_set(elements: Iterable[tuple[Element, bytes]]) -> bytes:
    body = b"".join(_encode_element(element, value) for element, value in elements)
    return _encode_element(Element.COMMAND_GROUP_LENGTH, struct.pack("<I", len(body))) + body


def _either(values: dict[int, bytes], one: Element, other: Element) -> bytes | None:
    # Which of the two a request has depends on its command; no request has both.
    return values.get(one, values.get(other))


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


def type_of(request: Request) -> int | None:
    """Return the Event or Action Type ID; None without one."""
    value = request.type_id or b""
    return int.from_bytes(value, "little") if len(value) == _US.size else None


def uid_text(value: bytes | None) -> str:
    """Return a UID of a command set as text that is safe in a log line and a file."""
    return printable(value or b"")
