"""The vocabulary of the DICOM Upper Layer: PDU types, reject and abort codes, and the short PDUs.

Source: PS3.8 9.3, DICOM Upper Layer Protocol for TCP/IP Data Unit Structure. Names as in pynetdicom's PDUs.
"""

import struct
from enum import Enum, IntEnum
from typing import Final

from lungnode.errors import UnavailableError, UnusableError


class PduType(IntEnum):
    """Source: PS3.8 9.3.2 to 9.3.8."""

    A_ASSOCIATE_RQ = 0x01
    A_ASSOCIATE_AC = 0x02
    A_ASSOCIATE_RJ = 0x03
    P_DATA_TF = 0x04
    A_RELEASE_RQ = 0x05
    A_RELEASE_RP = 0x06
    A_ABORT = 0x07


class Rejection(Enum):
    """The A-ASSOCIATE-RJ we send, as (result, source, reason).

    Result 1 is permanent, 2 transient; source 1 is the service user, 2 the ACSE related and 3 the
    presentation related service provider. Source: PS3.8 Table 9-21.
    """

    NO_REASON_GIVEN = (1, 1, 1)
    APPLICATION_CONTEXT_NAME_NOT_SUPPORTED = (1, 1, 2)
    CALLING_AE_TITLE_NOT_RECOGNIZED = (1, 1, 3)
    CALLED_AE_TITLE_NOT_RECOGNIZED = (1, 1, 7)
    # To the peer the same as the title that is not recognized; Enum tells members apart by their values.
    CERTIFICATE_OF_ANOTHER = (1, 1, 3, "certificate")
    PROTOCOL_VERSION_NOT_SUPPORTED = (1, 2, 2)
    TEMPORARY_CONGESTION = (2, 3, 1)
    LOCAL_LIMIT_EXCEEDED = (2, 3, 2)
    ADDRESS_LIMIT_EXCEEDED = (2, 3, 2, "address")

    @property
    def is_permanent(self) -> bool:
        """Whether the same request will always be rejected."""
        return bool(self.value[0] == 1)


class AbortSource(IntEnum):
    """Source: PS3.8 Table 9-26, Source."""

    SERVICE_USER = 0
    SERVICE_PROVIDER = 2


class AbortReason(IntEnum):
    """Source: PS3.8 Table 9-26, Reason/Diag.; it means something only when the service provider aborts."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PDU_PARAMETER = 4
    UNEXPECTED_PDU_PARAMETER = 5
    INVALID_PDU_PARAMETER_VALUE = 6


class ProtocolError(UnusableError):
    """The peer broke the protocol: the association is aborted with this reason."""

    def __init__(self, message: str, reason: AbortReason = AbortReason.INVALID_PDU_PARAMETER_VALUE) -> None:
        super().__init__(message)
        self.reason = reason


class PeerGoneError(UnavailableError):
    """The peer closed the connection, or the network did."""


class PeerSilentError(UnavailableError):
    """The peer sent nothing for longer than it may."""


HEADER_BYTES: Final = 6
_HEADER: Final = struct.Struct(">BxI")
_SHORT: Final = struct.Struct(">BxIBBBB")  # every PDU whose body is four bytes


def decode_header(header: bytes | memoryview) -> tuple[int, int]:
    """Return type and length of the PDU that starts with these six bytes."""
    pdu_type, length = _HEADER.unpack(header)
    return pdu_type, length


def encode_header(pdu_type: PduType, length: int) -> bytes:
    """Return the six bytes that start a PDU of `length` further bytes."""
    return _HEADER.pack(pdu_type, length)


def encode_reject(rejection: Rejection) -> bytes:
    """Return an A-ASSOCIATE-RJ. Source: PS3.8 Table 9-21."""
    return _SHORT.pack(PduType.A_ASSOCIATE_RJ, 4, 0, *rejection.value[:3])


def encode_release_response() -> bytes:
    """Return an A-RELEASE-RP. Source: PS3.8 Table 9-25."""
    return _SHORT.pack(PduType.A_RELEASE_RP, 4, 0, 0, 0, 0)


def encode_abort(source: AbortSource, reason: AbortReason) -> bytes:
    """Return an A-ABORT. Source: PS3.8 Table 9-26."""
    return _SHORT.pack(PduType.A_ABORT, 4, 0, 0, source, reason)


def printable(value: bytes | memoryview) -> str:
    """Return what a peer calls itself or an object, safe for a log line: printable ASCII, else a '?'."""
    text = bytes(value).strip(b" \0").decode("latin-1")
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if " " <= character <= "~" else "?" for character in text)
