"""Signals as something to wait for, whichever thread of the process the kernel gives them to.

Libraries start threads behind our back (numpy does, through pydicom): `sigwait` in one thread is not enough.
"""

import select
import signal
import socket
from collections.abc import Iterable
from typing import Final, Self

_MOST_BYTES: Final = 4_096  # one a signal


class SignalQueue:
    """Takes these signals from their default actions, from `__enter__` to `__exit__`."""

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._numbers = tuple(numbers)
        self._read, self._written = socket.socketpair()
        self._read.setblocking(False)
        self._written.setblocking(False)

    def __enter__(self) -> Self:
        signal.set_wakeup_fd(self._written.fileno(), warn_on_full_buffer=False)
        for number in self._numbers:
            signal.signal(number, _notice)
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._numbers:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        self._read.close()
        self._written.close()

    def fileno(self) -> int:
        """Return a descriptor that is readable when a signal came."""
        return self._read.fileno()

    def wait(self, seconds: float | None) -> set[int]:
        """Return the signals that came, waiting for the first for at most `seconds`; None: for ever."""
        select.select([self._read], [], [], seconds)
        try:
            return set(self._read.recv(_MOST_BYTES))
        except BlockingIOError:
            return set()


def _notice(_number: int, _frame: object) -> None:
    """Do nothing: the wake-up descriptor has the number already."""
