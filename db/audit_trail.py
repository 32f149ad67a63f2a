"""Reading the audit trail."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, select
from sqlalchemy.orm import Session

from db.models import AuditEvent
from db.session import transaction

_PIECE: Final = 500


@dataclass(frozen=True)
class Wanted:
    """Which events: those that fit everything that is named."""

    since: datetime | None = None
    until: datetime | None = None
    action: str = ""
    actor: str = ""
    subject: str = ""  # a study's UID, a digest, a name
    failed: bool = False  # only those that did not succeed

    def named(self) -> dict[str, str]:
        """Return what is named, in words, for the trail to tell what was looked for."""
        return {name: str(value) for name, value in vars(self).items() if value}

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return them as SQL."""
        named = {
            AuditEvent.action: self.action,
            AuditEvent.actor: self.actor,
            AuditEvent.subject: self.subject,
        }
        found = [column == value for column, value in named.items() if value]
        if self.since:
            found.append(AuditEvent.at >= self.since)
        if self.until:
            found.append(AuditEvent.at < self.until)
        return [*found, AuditEvent.outcome > 0] if self.failed else found


def newest(session: Session, wanted: Wanted, limit: int) -> list[AuditEvent]:
    """Return events, the newest first."""
    query = select(AuditEvent).where(*wanted.conditions()).order_by(AuditEvent.id.desc()).limit(limit)
    return list(session.scalars(query))


def last_of(session: Session, action: str, subject: str) -> AuditEvent | None:
    """Return the last event of an action that was done to something."""
    wanted = Wanted(action=action, subject=subject)
    return next(iter(newest(session, wanted, 1)), None)


def record_of(row: AuditEvent) -> dict[str, Any]:
    """Return an event as JSON, without its message."""
    return {
        "id": row.id,
        "at": row.at.isoformat(),
        "actor": row.actor,
        "action": row.action,
        "subject": row.subject,
        "outcome": row.outcome,
        "details": row.details,
        "batch": row.batch_id,
    }


def everything(engine: Engine, wanted: Wanted) -> Iterator[AuditEvent]:
    """Yield events in the order they were written, in pieces, so that the node goes on meanwhile."""
    last_id = 0
    while True:
        query = select(AuditEvent).where(AuditEvent.id > last_id, *wanted.conditions())
        with transaction(engine) as session:
            rows = list(session.scalars(query.order_by(AuditEvent.id).limit(_PIECE)))
        yield from rows
        if not rows:
            return
        last_id = rows[-1].id
