"""What a rejected association means: whether to try again, and what an operator can do.

The Result field alone is not enough: peers are known to answer congestion with "rejected-permanent", which
would end a delivery because of a busy minute, and a wrong protocol with "rejected-transient".
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

_PERMANENT: Final = 1  # Source: PS3.8 Table 9-21, Result: 1 rejected-permanent, 2 rejected-transient


class RejectionFields(NamedTuple):
    """The fields of an A-ASSOCIATE-RJ as they came."""

    result: int
    source: int
    reason: int


@dataclass(frozen=True)
class Rejection:
    """One reason of an A-ASSOCIATE-RJ; the advice has our AE title as {calling}, the peer's as {called}."""

    name: str
    transient: bool | None  # None: as the Result field says
    advice: str


_BUSY: Final = "Nothing needs to be done unless it stays so: then allow more associations at the peer."
_PROTOCOL: Final = "See that host and port are those of a DICOM application, and ask its vendor."
_UNKNOWN: Final = "Ask who runs the peer: its log says why it rejects {calling}."

# By source and reason. Source: PS3.8 Table 9-21, A-ASSOCIATE-RJ PDU fields; other reasons are reserved.
REJECTIONS: Final = {
    (1, 1): Rejection("no reason given", None, _UNKNOWN),
    (1, 2): Rejection("application context name not supported", False, _PROTOCOL),
    (1, 3): Rejection(
        "calling AE title not recognized", None, "Let the peer know the AE title {calling} at our address."
    ),
    (1, 7): Rejection(
        "called AE title not recognized", None, "Correct ae_title: the peer does not answer to {called}."
    ),
    (2, 1): Rejection("no reason given by the protocol layer", None, _UNKNOWN),
    (2, 2): Rejection("protocol version not supported", False, _PROTOCOL),
    (3, 1): Rejection("temporary congestion", True, _BUSY),
    (3, 2): Rejection("local limit exceeded", True, _BUSY),
}
_RESERVED: Final = Rejection("a reason that the Standard does not know", None, _UNKNOWN)


def rejection_of(fields: RejectionFields) -> Rejection:
    """Return what the fields say."""
    return REJECTIONS.get((fields.source, fields.reason), _RESERVED)


def is_transient(fields: RejectionFields) -> bool:
    """Tell whether another attempt may succeed though nobody changes anything."""
    transient = rejection_of(fields).transient
    return fields.result != _PERMANENT if transient is None else transient
