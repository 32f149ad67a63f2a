"""The two watermarks of the spool's disk: the first warns, below the second nothing is written."""

import logging
import os
import time
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Final

from lungnode.settings import ReceiverSettings

logger = logging.getLogger(__name__)

CONGESTED_AFTER_S: Final = 10.0  # a disk that stays full for longer turns new associations away


class DiskState(IntEnum):
    """How much room there is."""

    ROOMY = 0
    LOW = 1
    FULL = 2


class Disk:
    """The spool's disk as one process sees it. Looking is one system call, so it is never guessed."""

    def __init__(
        self,
        spool: Path,
        settings: ReceiverSettings,
        *,
        free_bytes: Callable[[Path], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spool = spool
        self._settings = settings
        self._free_bytes = free_bytes or _free_bytes
        self._clock = clock
        self._state = DiskState.ROOMY
        self._full_since: float | None = None

    def is_full(self) -> bool:
        """Look now; tell whether an instance must be refused."""
        try:
            free = self._free_bytes(self._spool)
        except OSError as error:
            # Not known to be full: let the attempt to write name what is wrong.
            logger.error("the disk of %s cannot be looked at: %s", self._spool, error.strerror)  # noqa: TRY400 - one line
            return False
        self._enter(self._judge(free), free)
        return self._state == DiskState.FULL

    def is_congested(self) -> bool:
        """Look now; tell whether the disk has been full for so long that associations are turned away."""
        if not self.is_full() or self._full_since is None:
            return False
        return self._clock() - self._full_since >= CONGESTED_AFTER_S

    def _judge(self, free: int) -> DiskState:
        if free < self._settings.disk_reject_bytes:
            return DiskState.FULL
        return DiskState.LOW if free < self._settings.disk_warn_bytes else DiskState.ROOMY

    def _enter(self, state: DiskState, free: int) -> None:
        if state == self._state:
            return
        self._state = state
        self._full_since = self._clock() if state == DiskState.FULL else None
        level = (logging.INFO, logging.WARNING, logging.ERROR)[state]
        logger.log(level, "the disk of %s is %s: %d bytes free", self._spool, state.name.lower(), free)


def _free_bytes(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
