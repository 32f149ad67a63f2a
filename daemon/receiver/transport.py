"""What carries an association's bytes: a TCP connection, with a limit on every wait.

`daemon/receiver/tls.py` has the other kind, which encrypts what this one carries.
"""

import select
import socket
import struct
import time
from typing import Final, Protocol

from daemon.receiver.pdu import PeerGoneError, PeerSilentError

_TIMEVAL: Final = struct.Struct("ll")
_SCRAP_BYTES: Final = 1 << 16


class Transport(Protocol):
    """A connection on which every wait is limited."""

    def limit_silence(self, seconds: float) -> None:
        """From now on every single wait ends after `seconds`; a deadline is lifted."""

    def limit_total(self, seconds: float) -> None:
        """From now on all waiting together ends after `seconds`."""

    def is_ready(self, seconds: float) -> bool:
        """Wait at most `seconds` for something to read, the end included; tell whether there is."""

    def read_into(self, room: memoryview) -> int:
        """Read what has come, waiting for at least one byte; return how many there were.

        Raises:
            PeerGoneError: The connection ended.
            PeerSilentError: It took too long.
        """

    def send(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            PeerGoneError: The connection ended.
            PeerSilentError: The peer does not read.
        """

    def end(self) -> None:
        """Say that nothing more will be sent, where that is said with words."""


class TcpTransport:
    """A connection as it is."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._deadline: float | None = None
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def limit_silence(self, seconds: float) -> None:
        """From now on every single wait ends after `seconds`; a deadline is lifted."""
        self._deadline = None
        # Kernel timeouts, not settimeout: Python would call poll before each recv.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(seconds))

    def limit_total(self, seconds: float) -> None:
        """From now on all waiting together ends after `seconds`."""
        self.limit_silence(seconds)
        self._deadline = time.monotonic() + seconds

    def is_ready(self, seconds: float) -> bool:
        """Wait at most `seconds` for something to read, the end included; tell whether there is."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def read_into(self, room: memoryview) -> int:
        """Read what has come, waiting for at least one byte; return how many there were."""
        if self._deadline is not None:
            self._shorten()
        try:
            count = self._socket.recv_into(room)
            # A sender under Nagle's algorithm holds a message's end back until its start is acknowledged.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        except BlockingIOError as error:
            raise PeerSilentError("The peer fell silent.") from error
        except OSError as error:
            raise PeerGoneError(f"The connection broke: {error.strerror}.") from error
        if not count:
            raise PeerGoneError("The peer closed the connection.")
        return count

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        try:
            self._socket.sendall(data)
        except BlockingIOError as error:
            raise PeerSilentError("The peer reads nothing.") from error
        except OSError as error:
            raise PeerGoneError(f"The connection broke: {error.strerror}.") from error

    def end(self) -> None:
        """Say nothing: closing says it."""

    def _shorten(self) -> None:
        remaining = (self._deadline or 0.0) - time.monotonic()
        if remaining <= 0:
            raise PeerSilentError("The peer was too slow.")
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(remaining))


def part(transport: Transport, farewell: bytes, seconds: float) -> None:
    """Say the last words, then read and drop until the peer closed the connection, for at most `seconds`.

    Closing with unread bytes would reset the connection, and the peer might never see what we said.
    """
    scrap = memoryview(bytearray(_SCRAP_BYTES))
    try:
        transport.send(farewell)
        transport.end()
        transport.limit_total(seconds)
        while True:
            transport.read_into(scrap)
    except (PeerGoneError, PeerSilentError):
        return


def _timeval(seconds: float) -> bytes:
    # Zero would mean no limit at all.
    microseconds = max(1, round(seconds * 1_000_000))
    return _TIMEVAL.pack(microseconds // 1_000_000, microseconds % 1_000_000)
