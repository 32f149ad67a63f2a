"""The web's entries in the audit: who signed in, who saw or changed what."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy.orm import Session

from daemon.web.access import Caller
from daemon.web.node import WebNode
from db import audit
from db.session import transaction
from lungnode.audit import codes, events
from lungnode.audit.events import Happening, event_of
from lungnode.audit.message import Outcome

_FAILURES = {"sign-in failed": Outcome.MINOR_FAILURE, "sign-in refused": Outcome.SERIOUS_FAILURE}
# A viewer asks for each slice, a page for the state of its list every few seconds: that is one look.
_ONE_LOOK: Final = timedelta(minutes=10)
_REMEMBERED: Final = 10_000


def note(session: Session, actor: str, action: str, subject: str, now: datetime, **details: Any) -> None:
    """Note that somebody did `action` to `subject`, a UID for example; in the caller's transaction.

    The subject of signing in and out is the address that it was done from.
    """
    is_sign_in = event_of(action).code == codes.USER_AUTHENTICATION
    who = events.person(actor or "nobody", subject if is_sign_in else "")
    outcome = _FAILURES.get(action, Outcome.SUCCESS)
    audit.note(session, Happening(action, subject, now, who, outcome), **details)


@contextmanager
def writing(node: WebNode, caller: Caller) -> Iterator[Session]:
    """Yield a session whose changes are, in the audit, the caller's; commit when the block ends."""
    with events.acting_as(events.person(caller.name, caller.address)), transaction(node.engine) as session:
        yield session


def note_look(node: WebNode, caller: Caller, action: str, subject: str, **details: Any) -> None:
    """Note that somebody saw something; once while the same one goes on looking at it."""
    now, key = node.clock(), (caller.name, caller.address, action, subject, repr(details))
    seen = node.looks.get(key)
    if seen is not None and now - seen < _ONE_LOOK:
        return
    with writing(node, caller) as session:
        audit.record(session, action, subject, now, **details)
    if len(node.looks) >= _REMEMBERED:
        node.looks.clear()
    node.looks[key] = now
