"""Buffered reading and writing of one peer's socket, with a limit on every wait."""

import mmap
import socket
import struct
import time
from collections.abc import Callable
from typing import Final

from daemon.receiver.pdu import PeerGoneError, PeerSilentError

BUFFER_BYTES: Final = 1 << 20  # more than any request; data sets stream through it
_LEAST_ROOM: Final = 1 << 16  # with less free at its end, the buffer is used from its start again
LONGEST_NEED_BYTES: Final = BUFFER_BYTES - _LEAST_ROOM
_TIMEVAL: Final = struct.Struct("ll")


def _nothing() -> None:
    """Stand in for `before_reuse` while nobody holds on to what was read."""


class Wire:
    """One connection. What `take` returns lies in the buffer and is valid until `before_reuse` was called."""

    def __init__(self, connection: socket.socket, size: int = BUFFER_BYTES) -> None:
        self.before_reuse: Callable[[], None] = _nothing
        self._socket = connection
        # A mapping goes back to the system at the end; the allocator would keep such blocks in many arenas.
        self._memory = memoryview(mmap.mmap(-1, size))
        self._position = 0
        self._end = 0
        self._deadline: float | None = None
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def unread(self) -> int:
        """How many bytes are here already."""
        return self._end - self._position

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

    def need(self, count: int) -> None:
        """Read until `count` bytes are here, at most LONGEST_NEED_BYTES.

        Raises:
            PeerGoneError: The connection ended first.
            PeerSilentError: It took too long.
        """
        while self._end - self._position < count:
            self.fill()

    def take(self, count: int) -> memoryview:
        """Return the next `count` bytes, which are here already, and step past them."""
        start = self._position
        self._position = start + count
        return self._memory[start : start + count]

    def fill(self) -> None:
        """Read what has come, waiting for at least one byte.

        Raises:
            PeerGoneError: The connection ended.
            PeerSilentError: It took too long.
        """
        # Starting over whenever all is read keeps the same, cached, part of the buffer in use.
        if len(self._memory) - self._end < _LEAST_ROOM or self._position == self._end:
            self._reuse()
        if self._deadline is not None:
            self._shorten()
        try:
            count = self._socket.recv_into(self._memory[self._end :])
            # A sender under Nagle's algorithm holds a message's end back until its start is acknowledged.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        except BlockingIOError as error:
            raise PeerSilentError("The peer fell silent.") from error
        except OSError as error:
            raise PeerGoneError(f"The connection broke: {error.strerror}.") from error
        if not count:
            raise PeerGoneError("The peer closed the connection.")
        self._end += count

    def send(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            PeerGoneError: The connection ended.
            PeerSilentError: The peer does not read.
        """
        try:
            self._socket.sendall(data)
        except BlockingIOError as error:
            raise PeerSilentError("The peer reads nothing.") from error
        except OSError as error:
            raise PeerGoneError(f"The connection broke: {error.strerror}.") from error

    def wait_for_close(self, seconds: float) -> None:
        """Read and drop until the peer closed the connection, for at most `seconds`.

        Closing with unread bytes would reset the connection, and the peer might never see our last words.
        """
        self.limit_total(seconds)
        try:
            while True:
                self._position = self._end
                self.fill()
        except (PeerGoneError, PeerSilentError):
            return

    def _reuse(self) -> None:
        self.before_reuse()
        unread = bytes(self._memory[self._position : self._end])
        self._memory[: len(unread)] = unread
        self._position, self._end = 0, len(unread)

    def _shorten(self) -> None:
        remaining = (self._deadline or 0.0) - time.monotonic()
        if remaining <= 0:
            raise PeerSilentError("The peer was too slow.")
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(remaining))


def _timeval(seconds: float) -> bytes:
    # Zero would mean no limit at all.
    microseconds = max(1, round(seconds * 1_000_000))
    return _TIMEVAL.pack(microseconds // 1_000_000, microseconds % 1_000_000)
