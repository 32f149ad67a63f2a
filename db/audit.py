"""Who did what; the caller owns the transaction."""

import getpass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from db.models import AuditEvent


def record(session: Session, action: str, subject: str, now: datetime, **details: Any) -> None:
    """Note that this process's account did `action`, "model promoted" for example, to `subject`."""
    event = AuditEvent(at=now, actor=getpass.getuser(), action=action, subject=subject, details=details)
    session.add(event)
