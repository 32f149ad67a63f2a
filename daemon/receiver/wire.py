"""Buffered reading of one peer's connection."""

import mmap
from collections.abc import Callable
from typing import Final

from daemon.receiver.transport import Transport

BUFFER_BYTES: Final = 1 << 20  # more than any request; data sets stream through it
_LEAST_ROOM: Final = 1 << 16  # with less free at its end, the buffer is used from its start again
LONGEST_NEED_BYTES: Final = BUFFER_BYTES - _LEAST_ROOM


def _nothing() -> None:
    """Stand in for `before_reuse` while nobody holds on to what was read."""


class Wire:
    """One connection. What `take` returns lies in the buffer and is valid until `before_reuse` was called."""

    def __init__(self, transport: Transport, size: int = BUFFER_BYTES) -> None:
        self.before_reuse: Callable[[], None] = _nothing
        self.send = transport.send
        self._read_into = transport.read_into
        self._is_ready = transport.is_ready
        # A mapping goes back to the system at the end; the allocator would keep such blocks in many arenas.
        self._memory = memoryview(mmap.mmap(-1, size))
        self._position = 0
        self._end = 0

    @property
    def unread(self) -> int:
        """How many bytes are here already."""
        return self._end - self._position

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

    def is_ready(self, seconds: float) -> bool:
        """Wait at most `seconds` for bytes or for the connection's end; tell whether either has come."""
        return bool(self.unread) or self._is_ready(seconds)

    def fill(self) -> None:
        """Read what has come, waiting for at least one byte.

        Raises:
            PeerGoneError: The connection ended.
            PeerSilentError: It took too long.
        """
        # Starting over whenever all is read keeps the same, cached, part of the buffer in use.
        if len(self._memory) - self._end < _LEAST_ROOM or self._position == self._end:
            self._reuse()
        self._end += self._read_into(self._memory[self._end :])

    def _reuse(self) -> None:
        self.before_reuse()
        unread = bytes(self._memory[self._position : self._end])
        self._memory[: len(unread)] = unread
        self._position, self._end = 0, len(unread)
