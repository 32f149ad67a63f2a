"""The receiver's alerts, from their files to the audit trail."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from db import audit
from db.audit import Refusal
from db.models import AuditEvent
from db.session import transaction
from lungnode.audit.events import Process

_MOST: Final = 500  # files in one round
_LOOK_BACK: Final = 2000  # events, for those of a file that a killed clerk did not remove
_ACTIVITIES: Final = ("application started", "application stopped")
_log = logging.getLogger(__name__)


class AlertReader:
    """Reads the alerts of one folder; a file is removed when its events are committed."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine = engine
        self._folder = folder
        self._done: set[str] | None = None  # files that were read before; None: not asked yet

    def round(self) -> None:
        """Move what is there into the audit trail.

        Raises:
            UnavailableError: The database is away.
        """
        with _held(self._folder) as mine:
            files = sorted(self._folder.glob("*.json"))[:_MOST] if mine else []
            if not files:
                return
            with transaction(self._engine) as session:
                done = self._done = _read_before(session) if self._done is None else self._done
                for file in files:
                    if file.stem not in done:
                        _record(session, file)
            for file in files:
                file.unlink(missing_ok=True)


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Keep other clerks of this host out; yields False when there is nothing, or one is in it."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield False
        return
    try:
        flock(handle, LOCK_EX | LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)


def _read_before(session: Session) -> set[str]:
    newest = select(AuditEvent.details).order_by(AuditEvent.id.desc()).limit(_LOOK_BACK)
    return {str(details.get("report")) for details in session.scalars(newest)}


def _record(session: Session, file: Path) -> None:
    try:
        report = json.loads(file.read_bytes())
        told = [_understood(each) for each in report["alerts"]]
        process = Process("receive", str(report["host"]), int(report["process"]))
    except (OSError, ValueError, LookupError, TypeError) as error:
        # Nobody but the receiver writes here, and it renames whole files only: it cannot be mended.
        _log.error("alerts %s cannot be read: %s", file.name, type(error).__name__)
        return
    for each in told:
        if each.action in _ACTIVITIES:
            audit.record_activity(session, each.action, process, each.called_ae_title, each.at)
        else:
            audit.record_refusal(session, each, process, report=file.stem)


def _understood(told: dict[str, Any]) -> Refusal:
    return Refusal(
        action=str(told["action"]),
        reason=str(told["reason"]),
        address=str(told["address"]),
        calling_ae_title=str(told["calling_ae_title"]),
        called_ae_title=str(told["called_ae_title"]),
        count=int(told["count"]),
        at=datetime.fromisoformat(told["last"]),
    )
