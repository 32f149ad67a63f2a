"""A storage SCU on bare sockets: it can send what a well-behaved library refuses to.

Independent of the receiver's own codec on purpose: the two are written against the Standard, not each other.
"""

import socket
import ssl
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

CT_IMAGE_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION: Final = "1.2.840.10008.1.1"
PUSH_MODEL: Final = "1.2.840.10008.1.20.1"
PUSH_MODEL_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
IMPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"
RELEASE_REQUEST: Final = struct.pack(">BxI4x", 5, 4)
ABORT: Final = struct.pack(">BxI4x", 7, 4)
DEADLINE_S: Final = 30.0  # no wait of a test is longer

N_ACTION_RQ: Final = 0x0130

Context = tuple[int, str, tuple[str, ...]]  # ID, abstract syntax, transfer syntaxes
CT_CONTEXT: Final[Context] = (1, CT_IMAGE_STORAGE, (EXPLICIT_VR_LITTLE_ENDIAN,))
VERIFICATION_CONTEXT: Final[Context] = (3, VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,))


@dataclass(frozen=True)
class Instance:
    """One SOP instance as it travels: UIDs of its C-STORE-RQ, and the encoded data set."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: bytes


def read_instance(path: Path) -> Instance:
    """Split a DICOM file into its File Meta values and its data set's bytes."""
    content = path.read_bytes()
    if content[128:132] != b"DICM":
        raise ValueError(f"{path} has no File Meta group")
    start = 144 + int.from_bytes(content[140:144], "little")
    values = dict(_file_meta(content[144:start]))
    return Instance(values[0x0002], values.get(0x0003, ""), values[0x0010], content[start:])


def _file_meta(group: bytes) -> Iterator[tuple[int, str]]:
    position = 0
    while position < len(group):
        _, element, vr, length = struct.unpack_from("<HH2sH", group, position)
        position += 8
        if vr in (b"OB", b"UN"):
            length = int.from_bytes(group[position : position + 4], "little")
            position += 4
        yield element, group[position : position + length].rstrip(b" \0").decode("latin-1")
        position += length


def item(item_type: int, value: bytes) -> bytes:
    """Encode an item or sub-item of an A-ASSOCIATE PDU."""
    return struct.pack(">BxH", item_type, len(value)) + value


def associate_request(
    contexts: Iterable[Context] = (CT_CONTEXT, VERIFICATION_CONTEXT),
    *,
    called: str = "LUNGNODE",
    calling: str = "TEST",
    maximum_length: int = 0,
    extra: bytes = b"",
) -> bytes:
    """Encode an A-ASSOCIATE-RQ; `extra` are further sub-items of the user information."""
    body = struct.pack(">H2x16s16s32x", 1, called.ljust(16).encode(), calling.ljust(16).encode())
    body += item(0x10, b"1.2.840.10008.3.1.1.1")
    for context_id, abstract_syntax, transfer_syntaxes in contexts:
        syntaxes = b"".join(item(0x40, uid.encode()) for uid in transfer_syntaxes)
        body += item(0x20, struct.pack(">B3x", context_id) + item(0x30, abstract_syntax.encode()) + syntaxes)
    user = item(0x51, struct.pack(">I", maximum_length)) + item(0x52, b"1.2.3.4") + item(0x55, b"WIRE")
    body += item(0x50, user + extra)
    return pdu(1, body)


def pdu(pdu_type: int, body: bytes) -> bytes:
    """Encode a PDU."""
    return struct.pack(">BxI", pdu_type, len(body)) + body


def pdv(context_id: int, control: int, value: bytes) -> bytes:
    """Encode a PDV: control 1 is a command, 2 the last fragment, 3 both."""
    return struct.pack(">IBB", len(value) + 2, context_id, control) + value


def command(elements: Iterable[tuple[int, bytes]]) -> bytes:
    """Encode a command set with its group length."""
    body = b"".join(_element(number, value) for number, value in elements)
    return _element(0, struct.pack("<I", len(body))) + body


def _element(number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, number, len(value)) + value


def _us(value: int) -> bytes:
    return struct.pack("<H", value)


def store_command(instance: Instance, message_id: int = 1, *, data_set_type: int = 1) -> bytes:
    """Encode the command set of a C-STORE-RQ."""
    return command(
        (
            (0x0002, instance.sop_class_uid.encode("latin-1")),
            (0x0100, _us(0x0001)),
            (0x0110, _us(message_id)),
            (0x0700, _us(0)),
            (0x0800, _us(data_set_type)),
            (0x1000, instance.sop_instance_uid.encode("latin-1")),
        )
    )


def request_command(
    command_field: int, sop_class_uid: str = VERIFICATION, *, data_set_type: int = 0x0101
) -> bytes:
    """Encode the command set of another request, a C-ECHO-RQ (0x0030) for example."""
    return command(
        (
            (0x0002, sop_class_uid.encode()),
            (0x0100, _us(command_field)),
            (0x0110, _us(1)),
            (0x0800, _us(data_set_type)),
        )
    )


def commitment_command(
    command_field: int,
    *,
    type_id: int = 1,
    sop_class_uid: str = PUSH_MODEL,
    sop_instance_uid: str = PUSH_MODEL_INSTANCE,
    data_set_type: int = 1,
) -> bytes:
    """Encode the command set of an N-ACTION-RQ (0x0130), or of another one with Affected UIDs."""
    is_action = command_field == N_ACTION_RQ
    return command(
        (
            (0x0003 if is_action else 0x0002, sop_class_uid.encode()),
            (0x0100, _us(command_field)),
            (0x0120 if command_field & 0x8000 else 0x0110, _us(1)),
            (0x0800, _us(data_set_type)),
            (0x1001 if is_action else 0x1000, sop_instance_uid.encode()),
            (0x1008 if is_action else 0x1002, _us(type_id)),
        )
    )


def store_message(
    instance: Instance, message_id: int = 1, *, context_id: int = 1, maximum_length: int = 0
) -> bytes:
    """Encode a whole C-STORE-RQ in PDUs of at most `maximum_length`; 0: one PDU for the data set."""
    parts = [pdu(4, pdv(context_id, 3, store_command(instance, message_id)))]
    data = memoryview(instance.data_set)
    step = maximum_length - 6 if maximum_length else max(1, len(data))
    for start in range(0, max(1, len(data)), step):
        last = 2 if start + step >= len(data) else 0
        parts.append(pdu(4, pdv(context_id, last, bytes(data[start : start + step]))))
    return b"".join(parts)


def decode_command(body: bytes) -> dict[int, bytes]:
    """Decode the command set in a P-DATA-TF body of one PDV."""
    values, position = {}, 6
    while position < len(body):
        _, number, length = struct.unpack_from("<HHI", body, position)
        values[number] = body[position + 8 : position + 8 + length]
        position += 8 + length
    return values


def accepted_contexts(body: bytes) -> dict[int, tuple[int, str]]:
    """Return result and transfer syntax by context ID from an A-ASSOCIATE-AC's body."""
    contexts, position = {}, 68
    while position < len(body):
        item_type, length = struct.unpack_from(">BxH", body, position)
        value = body[position + 4 : position + 4 + length]
        if item_type == 0x21:
            contexts[value[0]] = (value[2], value[8:].decode())
        position += 4 + length
    return contexts


class Peer:
    """One connection to a storage SCP."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", source: str = "") -> None:
        address = (host, port)
        self.socket = socket.create_connection(address, timeout=DEADLINE_S, source_address=(source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def encrypt(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on; an end without a farewell is an error then."""
        self.socket = context.wrap_socket(
            self.socket, server_hostname="localhost", suppress_ragged_eofs=False
        )

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(data)

    def read(self, count: int) -> bytes:
        """Return exactly `count` bytes."""
        data = bytearray()
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise ConnectionError(f"closed after {len(data)} of {count} bytes")
            data += part
        return bytes(data)

    def read_pdu(self) -> tuple[int, bytes]:
        """Return type and body of the next PDU."""
        pdu_type, length = struct.unpack(">BxI", self.read(6))
        return pdu_type, self.read(length)

    def associate(
        self, contexts: Iterable[Context] = (CT_CONTEXT, VERIFICATION_CONTEXT)
    ) -> dict[int, tuple[int, str]]:
        """Open an association; return result and transfer syntax by context ID."""
        self.send(associate_request(contexts))
        pdu_type, body = self.read_pdu()
        if pdu_type != 2:
            raise ConnectionError(f"not accepted: PDU type {pdu_type}, {body.hex()}")
        return accepted_contexts(body)

    def read_response(self) -> dict[int, bytes]:
        """Return the elements of the next response's command set."""
        pdu_type, body = self.read_pdu()
        if pdu_type != 4:
            raise ConnectionError(f"no response: PDU type {pdu_type}, {body.hex()}")
        return decode_command(body)

    def read_status(self) -> int:
        """Return the status of the next response."""
        return int.from_bytes(self.read_response()[0x0900], "little")

    def store(self, instance: Instance, *, context_id: int = 1, maximum_length: int = 0) -> int:
        """Send a C-STORE-RQ; return the status of its response."""
        self.send(store_message(instance, context_id=context_id, maximum_length=maximum_length))
        return self.read_status()

    def echo(self, context_id: int = 3) -> int:
        """Send a C-ECHO-RQ; return the status of its response."""
        self.send(pdu(4, pdv(context_id, 3, request_command(0x0030))))
        return self.read_status()

    def release(self) -> int:
        """Ask for release; return the type of the PDU that answers."""
        self.send(RELEASE_REQUEST)
        return self.read_pdu()[0]

    def is_closed_by_peer(self) -> bool:
        """Read on; tell whether the connection ends."""
        while True:
            try:
                if not self.socket.recv(65536):
                    return True
            except ConnectionError:
                return True
            except TimeoutError:
                return False
