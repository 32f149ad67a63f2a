"""Headers of the PROXY protocol before an attempt, as a listed proxy sends them, and damaged ones.

Source: The PROXY protocol, versions 1 and 2 (HAProxy's doc/proxy-protocol.txt), 2.1 and 2.2.
"""

import socket
import struct
from typing import Final

from tests.hostile.mutation import chance_of, damage

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_LOCAL, _PROXY = 0x20, 0x21  # version 2 and its command
_EXTENSION: Final = b"\x04\x00\x01x"
_PORTS: Final = struct.pack(">HH", 40_000, 104)
_IPV4: Final = socket.inet_aton("198.51.100.7") + socket.inet_aton("192.0.2.1") + _PORTS
_IPV6: Final = b"".join(socket.inet_pton(socket.AF_INET6, each) for each in ("2001:db8::7", "::1")) + _PORTS


def version_2(how: int, kind: int, rest: bytes) -> bytes:
    """Return a binary header with its true length."""
    return SIGNATURE + struct.pack(">BBH", how, kind, len(rest)) + rest


_HEADERS: Final = (
    b"PROXY TCP4 198.51.100.7 192.0.2.1 40000 104\r\n",
    b"PROXY TCP6 2001:db8::7 ::1 40000 104\r\n",
    b"PROXY UNKNOWN\r\n",
    b"PROXY TCP4\r\n",
    b"PROXY " + b"x" * 120,
    b"",
    version_2(_PROXY, 0x11, _IPV4),
    version_2(_PROXY, 0x11, _IPV4 + _EXTENSION),
    version_2(_PROXY, 0x21, _IPV6),
    version_2(_PROXY, 0x21, _IPV4),  # too short for what it says
    version_2(_PROXY, 0x31, bytes(216)),  # of Unix sockets
    version_2(_LOCAL, 0x00, b""),
    version_2(_PROXY, 0x11, bytes(5000)),
)


def header(seed: int, number: int) -> bytes:
    """Return the header of an attempt: every second one is damaged."""
    chance = chance_of(seed, number)
    return damage(chance.choice(_HEADERS), chance, number % 2)
