"""The web's entries in the audit: who signed in, who saw or changed what."""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from db import audit
from lungnode.audit import codes, events
from lungnode.audit.events import Happening, event_of
from lungnode.audit.message import Outcome

_FAILURES = {"sign-in failed": Outcome.MINOR_FAILURE, "sign-in refused": Outcome.SERIOUS_FAILURE}


def note(session: Session, actor: str, action: str, subject: str, now: datetime, **details: Any) -> None:
    """Note that somebody did `action` to `subject`, a UID for example; in the caller's transaction.

    The subject of signing in and out is the address that it was done from.
    """
    is_sign_in = event_of(action).code == codes.USER_AUTHENTICATION
    who = events.person(actor or "nobody", subject if is_sign_in else "")
    outcome = _FAILURES.get(action, Outcome.SUCCESS)
    audit.note(session, Happening(action, subject, now, who, outcome), **details)
