"""HL7 over MLLP: one message a connection, and what its acknowledgement means.

Source: HL7, Transport Specification: MLLP, Release 1; HL7 2.5.1, 2.9.2 acknowledgement, tables 0008 and 0357.
"""

import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Final

from hl7apy.parser import parse_segment

from lungnode.errors import UnavailableError, UnusableError
from lungnode.settings import Hl7Destination, PeerTls
from lungnode.tls import client_context, trouble_of
from worker.answers import ASK, Answer, Meaning, silence
from worker.parcel import Item

_START: Final = b"\x0b"
_END: Final = b"\x1c\r"
_LONGEST_ANSWER: Final = 1_000_000  # bytes
_QUOTED: Final = 200  # characters of an answer that a row keeps
_SLOW: Final = "See what keeps the peer busy, or raise timeout_s."

# Source: HL7 2.5.1 table 0008, Acknowledgment code: of the message itself, and of its safe storage.
_CODES: Final = {
    "AA": Meaning.STORED,
    "CA": Meaning.STORED,
    "AE": Meaning.PUZZLED,  # it may be the message, it may be a database that is away
    "CE": Meaning.PUZZLED,
    "AR": Meaning.REFUSED,
    "CR": Meaning.REFUSED,
}
# Where an error is named, it decides. Source: HL7 2.5.1 table 0357, Message error condition codes.
_ERRORS: Final = {
    "100": Meaning.REFUSED,  # Segment sequence error
    "101": Meaning.REFUSED,  # Required field missing
    "102": Meaning.REFUSED,  # Data type error
    "103": Meaning.REFUSED,  # Table value not found
    "200": Meaning.REFUSED,  # Unsupported message type
    "201": Meaning.REFUSED,  # Unsupported event code
    "202": Meaning.REFUSED,  # Unsupported processing id
    "203": Meaning.REFUSED,  # Unsupported version id
    "204": Meaning.AGAIN,  # Unknown key identifier: the patient or the order may come later
    "205": Meaning.DUPLICATE,  # Duplicate key identifier
    "206": Meaning.AGAIN,  # Application record locked
    "207": Meaning.AGAIN,  # Application internal error
}
_STRONGEST_FIRST: Final = (Meaning.REFUSED, Meaning.DUPLICATE, Meaning.AGAIN)
_UNKNOWN_KEY: Final = "204"


@contextmanager
def messaging(destination: Hl7Destination) -> Iterator["Receiver"]:
    """Hold the way to a receiver while the block runs; each message has its own connection."""
    yield Receiver(destination)


class Receiver:
    """A system that acknowledges messages."""

    is_there = True

    def __init__(self, destination: Hl7Destination) -> None:
        self._destination = destination

    def accepts(self, _sop_class_uid: str) -> bool:
        """Hope so."""
        return True

    def send(self, item: Item) -> Answer:
        """Send a message and read its acknowledgement.

        Raises:
            UnavailableError: There is no connection for now.
            UnusableError: There never will be one as things are.
        """
        deadline = monotonic() + self._destination.timeout_s
        with connected(self._destination) as connection:
            try:
                connection.sendall(_START + item.text.encode() + _END)
                return acknowledgement(_framed(connection, deadline), item.identifier)
            except TimeoutError:
                return silence(f"nothing came within {self._destination.timeout_s:g} s", _SLOW)
            except OSError:
                return silence("the connection was lost")


@contextmanager
def connected(to: Hl7Destination) -> Iterator[socket.socket]:
    """Hold a connection while the block runs.

    Raises:
        UnavailableError: There is none for now.
        UnusableError: There never will be one as things are.
    """
    place = f"Destination {to.name} at {to.host}:{to.port}"
    try:
        plain = socket.create_connection((to.host, to.port), timeout=to.timeout_s)
    except OSError as error:
        advice = "See that it runs, and that its host and port are right."
        raise UnavailableError(f"{place} cannot be reached: {error}.", advice=advice) from error
    with plain:
        if to.tls is None:
            yield plain
            return
        with _encrypted(plain, to, to.tls, place) as encrypted:
            yield encrypted


def _encrypted(plain: socket.socket, to: Hl7Destination, tls: PeerTls, place: str) -> ssl.SSLSocket:
    try:
        return client_context(tls).wrap_socket(plain, server_hostname=tls.server_name or to.host)
    except OSError as error:
        trouble = trouble_of(error)
        kind = UnusableError if trouble.lasts else UnavailableError
        raise kind(f"No TLS with {place}: {trouble.sentence} ({trouble.name}).") from error


def _framed(connection: socket.socket, deadline: float) -> str:
    """Read one framed message.

    Raises:
        TimeoutError: It was not whole in time.
        OSError: The connection was lost, or what came has no end.
    """
    content = bytearray()
    while not content.endswith(_END):
        left = deadline - monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        received = connection.recv(65_536)
        if not received or len(content) > _LONGEST_ANSWER:
            raise OSError("no whole message came")
        content += received
    return content.removeprefix(_START).removesuffix(_END).decode("utf-8", "replace")


def acknowledgement(text: str, control_id: str) -> Answer:
    """Return what an acknowledgement says of the message with this control ID."""
    try:
        segments = [line for line in re.split(r"[\r\n]+", text) if line]
        (msa,) = (_fields(line) for line in segments if line.startswith("MSA"))
        errors = [_fields(line) for line in segments if line.startswith("ERR")]
    except Exception as error:  # noqa: BLE001 - untrusted bytes: the parser raises anything
        return silence(f"its acknowledgement cannot be read: {type(error).__name__}")
    code, acknowledged, said = msa.get("MSA_1", ""), msa.get("MSA_2", ""), msa.get("MSA_3", "")
    if acknowledged != control_id or code not in _CODES:
        return silence("what came acknowledges no message of ours")
    named = [value.partition("^")[0] for value in (msa.get("MSA_6", ""), *_errors(errors)) if value]
    comment = " ".join(filter(None, (said, *(error.get("ERR_8", "") for error in errors))))[:_QUOTED]
    status = " ".join((code, *named))
    return Answer(status, _meaning(code, named), comment, _advice(named))


def _errors(errors: Sequence[dict[str, str]]) -> list[str]:
    return [error.get("ERR_3", "") for error in errors]


def _meaning(code: str, named: Sequence[str]) -> Meaning:
    if _CODES[code] is Meaning.STORED:
        return Meaning.STORED
    found = {_ERRORS[each] for each in named if each in _ERRORS}
    return next((each for each in _STRONGEST_FIRST if each in found), _CODES[code])


def _advice(named: Sequence[str]) -> str:
    if _UNKNOWN_KEY in named:
        return "Let the peer know the patient and the order."
    return ASK


def _fields(line: str) -> dict[str, str]:
    """Return the fields of a segment by name; of repetitions the last."""
    return {field.name: field.to_er7() for field in parse_segment(line, version="2.5.1").children}
