"""How many connections and associations each process serves, in memory that all of them share.

Each process writes its own row only; the parent clears the row of one that died: `kill -9` frees its seats.
"""

import fcntl
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_CONNECTIONS: Final = 0
_ASSOCIATIONS: Final = 1
_COLUMNS: Final = 2
_CELL_BYTES: Final = 4


class Seats:
    """The table, and the limit on associations over all of its rows."""

    def __init__(self, processes: int, limit: int) -> None:
        self._limit = limit
        self._cells = memoryview(mmap.mmap(-1, processes * _COLUMNS * _CELL_BYTES)).cast("I")
        self._threads = threading.Lock()
        # A record lock on a file without a name: shared by fork, dropped by the kernel with its holder.
        self._processes = os.memfd_create("seats")

    def connections(self) -> list[int]:
        """Connections of each process."""
        return list(self._cells[_CONNECTIONS::_COLUMNS])

    def enter(self, process: int) -> None:
        """Count a connection."""
        with self._threads:
            self._cells[process * _COLUMNS + _CONNECTIONS] += 1

    def leave(self, process: int) -> None:
        """Count a connection no longer."""
        with self._threads:
            self._cells[process * _COLUMNS + _CONNECTIONS] -= 1

    def take(self, process: int) -> bool:
        """Count an association, unless as many as allowed are open already."""
        with self._locked():
            taken = sum(self._cells[_ASSOCIATIONS::_COLUMNS])
            if taken >= self._limit:
                return False
            self._cells[process * _COLUMNS + _ASSOCIATIONS] += 1
            return True

    def give_back(self, process: int) -> None:
        """Count an association no longer."""
        with self._locked():
            self._cells[process * _COLUMNS + _ASSOCIATIONS] -= 1

    def clear(self, process: int) -> None:
        """Free what a dead process held; the parent calls it before the next one starts."""
        for column in range(_COLUMNS):
            self._cells[process * _COLUMNS + column] = 0

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Record locks belong to a process: its threads need one of their own.
        with self._threads:
            fcntl.lockf(self._processes, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._processes, fcntl.LOCK_UN)
