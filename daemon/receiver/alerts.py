"""What the audit trail is to know of peers that were turned away: files that the clerk reads.

A peer that knocks a thousand times a second is counted, not written down a thousand times: a process writes
one file a second at most, with a line for each peer and reason, and a sum for what would be too many.
"""

import json
import logging
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from lungnode.durable import replaced

logger = logging.getLogger(__name__)

MOST: Final = 100  # different ones in a file
_WAIT_S: Final = 1.0


@dataclass(frozen=True)
class Alert:
    """Something that happened to this process; the same from the same peer is one with a count."""

    action: str  # the audit trail's word: "association rejected"
    reason: str = ""
    address: str = ""
    calling_ae_title: str = ""
    called_ae_title: str = ""


class Alerts:
    """The alerts of one process."""

    def __init__(self, folder: Path, is_disk_full: Callable[[], bool] = lambda: False) -> None:
        self._folder = folder
        self._is_disk_full = is_disk_full
        self._waiting: dict[Alert, list[Any]] = {}  # count, first and last time
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._timer: threading.Timer | None = None

    def add(self, alert: Alert) -> None:
        """Write the alert within a second, together with others."""
        with self._lock:
            self._count(alert)
            if self._timer is None:
                self._timer = threading.Timer(_WAIT_S, self.flush)
                self._timer.daemon = True
                self._timer.start()

    def tell(self, alert: Alert) -> None:
        """Write the alert now."""
        with self._lock:
            self._count(alert)
        self.flush()

    def flush(self) -> None:
        """Write what waits; what another thread is writing is durable as well when this returns."""
        with self._writing:
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if not waiting or self._is_disk_full():
            return
        told = [
            asdict(alert) | {"count": count, "first": first, "last": last}
            for alert, (count, first, last) in waiting.items()
        ]
        try:
            self._write({"host": socket.gethostname(), "process": os.getpid(), "alerts": told})
        except OSError as error:
            logger.error("alerts cannot be written: %s", error.strerror)  # noqa: TRY400 - one line

    def _count(self, alert: Alert) -> None:
        now = datetime.now(UTC).isoformat()
        if alert not in self._waiting and len(self._waiting) >= MOST:
            alert = Alert(alert.action, "too many different ones to name")
        counted = self._waiting.setdefault(alert, [0, now, now])
        counted[0] += 1
        counted[2] = now

    def _write(self, report: dict[str, object]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with replaced(self._folder / f"{uuid4().hex}.json") as file:
            file.write(json.dumps(report).encode("ascii"))
