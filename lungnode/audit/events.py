"""What each action of Lungnode is as an event of PS3.15 A.5.3, and the messages of those events.

An action that PS3.15 has no event for has a code of our own, in the same schema: the action's words.
"""

import os
import pwd
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Final

from lungnode.audit import codes
from lungnode.audit.codes import Code
from lungnode.audit.message import Action, Message, Outcome, Participant, Thing


class About(Enum):
    """What the subject of an action is."""

    STUDY = auto()  # a Study Instance UID
    NODE = auto()  # a peer: its AE title, its address
    LOG = auto()  # a part of the audit trail
    USER = auto()  # an account
    OTHER = auto()  # a digest, a name


@dataclass(frozen=True)
class Event:
    """An event of PS3.15 A.5.3."""

    code: Code
    action: Action
    about: About
    kind: Code | None = None  # EventTypeCode


_CHANGED_SOFTWARE: Final = Event(
    codes.SECURITY_ALERT, Action.EXECUTE, About.OTHER, codes.SOFTWARE_CONFIGURATION
)
_REFUSED_NODE: Final = Event(codes.SECURITY_ALERT, Action.EXECUTE, About.NODE, codes.NODE_AUTHENTICATION)
_CHANGED_USER: Final = Event(codes.SECURITY_ALERT, Action.EXECUTE, About.USER, codes.USER_ATTRIBUTES_CHANGED)

_SIGN_IN: Final = Event(codes.USER_AUTHENTICATION, Action.EXECUTE, About.USER, codes.LOGIN)
_SIGN_OUT: Final = Event(codes.USER_AUTHENTICATION, Action.EXECUTE, About.USER, codes.LOGOUT)

# What is not listed is recorded as well, as an event of our own about its subject.
EVENTS: Final[Mapping[str, Event]] = {
    "application started": Event(
        codes.APPLICATION_ACTIVITY, Action.EXECUTE, About.OTHER, codes.APPLICATION_START
    ),
    "application stopped": Event(
        codes.APPLICATION_ACTIVITY, Action.EXECUTE, About.OTHER, codes.APPLICATION_STOP
    ),
    "audit trail read": Event(codes.AUDIT_LOG_USED, Action.READ, About.LOG),
    "study received": Event(codes.INSTANCES_TRANSFERRED, Action.CREATE, About.STUDY),
    "study received again": Event(codes.INSTANCES_TRANSFERRED, Action.READ, About.STUDY),
    "results sent": Event(codes.INSTANCES_TRANSFERRED, Action.READ, About.STUDY),
    "study analysed": Event(codes.INSTANCES_ACCESSED, Action.READ, About.STUDY),
    "study viewed": Event(codes.INSTANCES_ACCESSED, Action.READ, About.STUDY),
    "study corrected": Event(codes.INSTANCES_ACCESSED, Action.UPDATE, About.STUDY),
    "report corrected": Event(codes.PROCEDURE_RECORD, Action.UPDATE, About.STUDY),
    "study deleted": Event(codes.STUDY_DELETED, Action.DELETE, About.STUDY),
    "instances withdrawn": Event(codes.INSTANCES_ACCESSED, Action.UPDATE, About.STUDY),
    "files deleted": Event(codes.STUDY_DELETED, Action.DELETE, About.STUDY),
    "study held": Event(codes.PROCEDURE_RECORD, Action.UPDATE, About.STUDY),
    "study released": Event(codes.PROCEDURE_RECORD, Action.UPDATE, About.STUDY),
    "studies exported": Event(codes.EXPORT, Action.READ, About.STUDY),
    "delivery retried": Event(codes.PROCEDURE_RECORD, Action.UPDATE, About.STUDY),
    "label set": Event(codes.PROCEDURE_RECORD, Action.UPDATE, About.STUDY),
    "label deleted": Event(codes.PROCEDURE_RECORD, Action.DELETE, About.STUDY),
    "peer queried": Event(codes.QUERY, Action.EXECUTE, About.OTHER),
    "association rejected": _REFUSED_NODE,
    "connection refused": _REFUSED_NODE,  # TLS failed, or what came was no DICOM
    "signed in": _SIGN_IN,
    "sign-in failed": _SIGN_IN,
    "sign-in refused": _SIGN_IN,
    "signed out": _SIGN_OUT,
    "signed out everywhere": _SIGN_OUT,
    "account added": _CHANGED_USER,
    "account's role changed": _CHANGED_USER,
    "account disabled": _CHANGED_USER,
    "account enabled": _CHANGED_USER,
    "account signed out": _CHANGED_USER,
    "password changed": _CHANGED_USER,
    "token made": _CHANGED_USER,
    "token revoked": _CHANGED_USER,
    "node restored": _CHANGED_SOFTWARE,
    "model registered": _CHANGED_SOFTWARE,
    "model promoted": _CHANGED_SOFTWARE,
    "model rolled back": _CHANGED_SOFTWARE,
    "model put into the shadow": _CHANGED_SOFTWARE,
    "model taken out of the shadow": _CHANGED_SOFTWARE,
}


def event_of(action: str) -> Event:
    """Return what an action is."""
    own = Code(action.replace(" ", "-").replace("'", ""), codes.OWN, action.capitalize())
    return EVENTS.get(action, Event(own, Action.EXECUTE, About.OTHER))


@dataclass(frozen=True)
class Happening:
    """An action that happened."""

    action: str
    subject: str
    at: datetime
    by: Participant
    outcome: Outcome = Outcome.SUCCESS
    description: str = ""  # what an alert warns of, why something failed; never a name or an ID


def compose(happened: Happening, things: Sequence[Thing], others: Sequence[Participant] = ()) -> Message:
    """Return the message of an action.

    Args:
        happened: What happened; whoever did it is the requestor.
        things: Study and patient where it is about a study; else what it is about is made here.
        others: Further participants.
    """
    event = event_of(happened.action)
    return Message(
        event=event.code,
        action=event.action,
        at=happened.at,
        participants=(happened.by, *others),
        things=tuple(things) or _things(event, happened),
        outcome=happened.outcome,
        types=(event.kind,) if event.kind else (),
        description=happened.description if happened.outcome else "",
    )


def _things(event: Event, happened: Happening) -> tuple[Thing, ...]:
    # Source: PS3.15 A.5.3.1 and A.5.3.12, no participant objects; A.5.3.11, Alert Description is mandatory.
    if event.code in (codes.APPLICATION_ACTIVITY, codes.USER_AUTHENTICATION):
        return ()
    is_alert = event.code == codes.SECURITY_ALERT
    details = {"Alert Description": happened.description or happened.action} if is_alert else {}
    kind, name = _ID_TYPES[event.about], "Security Audit Log" if event.about is About.LOG else ""
    return (Thing("2", "13", kind, happened.subject, name, details=details),)


_ID_TYPES: Final = {
    About.STUDY: codes.STUDY_INSTANCE_UID,
    About.NODE: codes.NODE_ID,
    About.LOG: codes.URI,
    About.USER: codes.USER_IDENTIFIER,
    About.OTHER: Code("subject", codes.OWN, "Subject of the action"),
}


_acting: Final[ContextVar[Participant | None]] = ContextVar("acting", default=None)


@contextmanager
def acting_as(who: Participant) -> Iterator[None]:
    """Let what the block does be done by somebody who is not the account of this process."""
    token = _acting.set(who)
    try:
        yield
    finally:
        _acting.reset(token)


def requestor() -> Participant:
    """Return who does what happens now: whoever the process acts for, else its account."""
    return _acting.get() or account()


def account() -> Participant:
    """Return the account that runs this process. Source: PS3.15 A.5.2.1, loginName@domain-name."""
    host = socket.gethostname()
    return Participant(f"{account_name()}@{host}", is_requestor=True, name=account_name(), address=host)


def account_name() -> str:
    """Return the name of the account that runs this process; its number where it has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # containers run under numbers that no file names
        return str(os.getuid())


def person(user: str, address: str) -> Participant:
    """Return somebody who uses the node from elsewhere."""
    return Participant(user, is_requestor=True, name=user, address=address)


@dataclass(frozen=True)
class Process:
    """One of our processes, here unless another one is named."""

    program: str  # a command of ours: "clerk"
    host: str = field(default_factory=socket.gethostname)
    number: int = field(default_factory=os.getpid)


def program(
    process: Process, role: Code | None = None, *, ae_title: str = "", is_requestor: bool = True
) -> Participant:
    """Return one of our programs, as `ps` names it."""
    user, name = f"{process.number}@{process.host}", f"lungnode {process.program}"
    titles = (ae_title,) if ae_title else ()
    return Participant(user, is_requestor, role, titles, name, process.host)


def peer(ae_title: str, address: str, role: Code | None = None, *, is_requestor: bool = False) -> Participant:
    """Return a peer's application entity; its title and address may be unknown."""
    user = f"{ae_title or 'unknown'}@{address or 'unknown'}"
    titles = (ae_title,) if ae_title else ()
    return Participant(user, is_requestor, role, titles, address=address)


def media(folder: str) -> Participant:
    """Return a folder that data was exported to. Source: PS3.15 A.5.3.4, Media."""
    role, kind = codes.DESTINATION_MEDIA, codes.URI_MEDIA
    host = socket.gethostname()
    return Participant(f"file://{folder}", role=role, address=host, media=kind)
