"""Who is behind a load balancer: the header with which it begins a connection.

Source: The PROXY protocol, versions 1 and 2 (HAProxy's doc/proxy-protocol.txt), 2.1 and 2.2.
"""

import socket
from enum import IntEnum
from ipaddress import ip_address
from typing import Final

from daemon.receiver.pdu import ProtocolError
from daemon.receiver.transport import Transport

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_LINE: Final = b"PROXY "  # how version 1 begins
_MOST_LINE: Final = 107  # bytes of a line of version 1, its end included
_MOST_REST: Final = 4096  # bytes of addresses and extensions; proxies send some hundred at most
_VERSION_2: Final = 0x2
_ADDRESSES: Final = {  # family and protocol: how to read the client's address, and its bytes
    0x11: (socket.AF_INET, 4),
    0x21: (socket.AF_INET6, 16),
}


class _Command(IntEnum):
    LOCAL = 0x0  # the proxy speaks for itself: it looks whether we live
    PROXY = 0x1


def read_client(transport: Transport) -> str | None:
    """Read the header and return the client's address; None when the proxy speaks for itself or knows none.

    Raises:
        ProtocolError: The connection does not begin with the header.
        PeerGoneError, PeerSilentError: It ended, or took too long.
    """
    begin = _read(transport, len(_SIGNATURE))
    if begin == _SIGNATURE:
        return _version_2(transport)
    if begin.startswith(_LINE):
        return _version_1(transport, begin)
    raise ProtocolError("A connection of a listed proxy does not begin with the PROXY protocol's header.")


def _version_1(transport: Transport, line: bytes) -> str | None:
    while not line.endswith(b"\r\n"):
        if len(line) >= _MOST_LINE:
            raise ProtocolError("A line of the PROXY protocol has no end.")
        line += _read(transport, 1)
    _, kind, *addresses = line.decode("ascii", "replace").split()
    if kind not in ("TCP4", "TCP6"):
        return None
    try:
        return str(ip_address(addresses[0]))
    except (IndexError, ValueError) as error:
        raise ProtocolError("A line of the PROXY protocol names no address.") from error


def _version_2(transport: Transport) -> str | None:
    how, kind, high, low = _read(transport, 4)
    length = high << 8 | low
    if how >> 4 != _VERSION_2 or how & 0xF not in list(_Command) or length > _MOST_REST:
        raise ProtocolError("A header of the PROXY protocol cannot be read.")
    rest = _read(transport, length)
    if how & 0xF == _Command.LOCAL or kind not in _ADDRESSES:
        return None
    family, size = _ADDRESSES[kind]
    if length < 2 * size + 4:
        raise ProtocolError("A header of the PROXY protocol is too short for its addresses.")
    return socket.inet_ntop(family, rest[:size])


def _read(transport: Transport, count: int) -> bytes:
    room, have = memoryview(bytearray(count)), 0
    while have < count:
        have += transport.read_into(room[have:])
    return bytes(room)
