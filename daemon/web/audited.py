"""The web's entries in the audit: who signed in, who saw or changed what."""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from db.models import AuditEvent


def note(session: Session, actor: str, action: str, subject: str, now: datetime, **details: Any) -> None:
    """Note that somebody did `action` to `subject`, a UID for example; in the caller's transaction."""
    event = AuditEvent(at=now, actor=actor or "nobody", action=action, subject=subject[:255], details=details)
    session.add(event)
