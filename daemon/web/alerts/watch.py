"""Looks now and then whether something is wrong, and tells."""

import logging
import shutil
import socket
from datetime import datetime
from threading import Event
from typing import Any

from daemon.web.alerts.conditions import Facts, what_is_wrong
from daemon.web.alerts.sending import send
from daemon.web.node import WebNode
from daemon.web.programs import programs
from db.alerts import note_alerts, untold
from db.models import Alert
from db.numbers import read_numbers
from db.session import reading, transaction
from lungnode.errors import LungnodeError, UnavailableError
from lungnode.store import StoreAwayError

_LOG = logging.getLogger(__name__)


def look(node: WebNode, now: datetime) -> None:
    """Note what is wrong, and tell what was not told.

    Raises:
        UnavailableError: The database is away, or nobody could be told; the next look tries again.
    """
    settings = node.settings
    with reading(node.engine) as session:
        numbers = read_numbers(session, now, only_open=True)
    free = shutil.disk_usage(settings.data).free if settings.data.exists() else 0
    facts = Facts(numbers, programs(settings.data), free, _why_away(node))
    wrong = [(each.name, each.subject, each.sentence) for each in what_is_wrong(facts, settings)]
    with transaction(node.engine) as session:
        note_alerts(session, wrong, now)
    while _tell_one(node, now):
        pass


def _why_away(node: WebNode) -> str:
    if not node.settings.store.url:
        return ""  # folders: their disks are looked at
    try:
        node.archive.check()
    except StoreAwayError as error:
        return str(error)
    return ""


def _tell_one(node: WebNode, now: datetime) -> bool:
    """Tell of one alert; its row is taken before, so that no other process tells of it, and given back."""
    with transaction(node.engine) as session:
        waiting = untold(session)
        if not waiting:
            return False
        alert = waiting[0]
        column = "told_at" if alert.ended_at is None else "end_told_at"
        setattr(alert, column, now)
    try:
        send(node.settings.notify, document_of(alert))
    except UnavailableError:
        with transaction(node.engine) as session:
            setattr(session.get_one(Alert, alert.id), column, None)
        raise
    return True


def document_of(alert: Alert) -> dict[str, Any]:
    """Return what is told of an alert."""
    return {
        "host": socket.gethostname(),
        "status": "firing" if alert.ended_at is None else "resolved",
        "name": alert.name,
        "subject": alert.subject,
        "sentence": alert.sentence,
        "began_at": alert.began_at.isoformat(),
        "ended_at": alert.ended_at.isoformat() if alert.ended_at else None,
    }


def watch_until(node: WebNode, stopping: Event) -> None:
    """Look until the process stops."""
    while not stopping.wait(node.settings.notify.every_s):
        try:
            look(node, node.clock())
        except LungnodeError as error:
            _LOG.warning("alerts: %s", error)
        except Exception as error:  # noqa: BLE001 - no mistake here may end the watch
            _LOG.error("alerts failed with %s", type(error).__name__)
