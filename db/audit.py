"""Who did what: events are rows, written in the transaction of the change; the caller owns it.

The clerk makes the message of each and chains them (`db/audit_chain.py`). Details and descriptions hold no
name and no ID of a patient: those are in the message alone, as far as `audit.patients` allows.
"""

import logging
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from db.models import AssociationRecord, AssociationStudy, AuditEvent, Delivery, Instance, Quarantined, Study
from db.session import transaction
from lungnode.audit import codes, events
from lungnode.audit.events import About, Happening, Process, compose, event_of
from lungnode.audit.message import Outcome, Participant, Thing, as_json, patient, printable, study
from lungnode.errors import UnavailableError

_ACTOR: Final = 255
_LOG = logging.getLogger(__name__)
_FAILED: Final = ("aborted", "lost")  # outcomes of associations


@dataclass(frozen=True)
class Query:
    """A C-FIND that was sent."""

    sop_class_uid: str
    identifier: bytes  # the encoded data set; it may name a patient
    transfer_syntax_uid: str
    attributes: tuple[str, ...]  # keywords of what was asked for, without the values


def record(session: Session, action: str, subject: str, now: datetime, **details: Any) -> None:
    """Note that whoever this process acts for did `action`, "model promoted" for example, to `subject`.

    Args:
        session: In the transaction of the change.
        action: One of `lungnode.audit.events.EVENTS`; another becomes an event of our own.
        subject: What it was done to: a Study Instance UID, a digest, a name.
        now: When.
        details: What else is worth knowing.
    """
    note(session, Happening(action, subject, now, events.requestor()), **details)


def note(session: Session, happened: Happening, **details: Any) -> None:
    """Note what somebody else did, or what failed; as `record` does."""
    event = event_of(happened.action)
    if event.code == codes.EXPORT:
        anonymized = details.get("deidentified")
        things = study_things(session, happened.subject, anonymized=anonymized)
        happened = replace(happened, by=replace(happened.by, role=codes.SOURCE))
        add(session, happened, things, (events.media(str(details.get("folder", ""))),), details)
        return
    things = study_things(session, happened.subject) if event.about is About.STUDY else ()
    add(session, happened, things, details=details)


def add(
    session: Session,
    happened: Happening,
    things: Sequence[Thing] = (),
    others: Sequence[Participant] = (),
    details: dict[str, Any] | None = None,
) -> None:
    """Note an event whose message needs more than a subject."""
    session.add(
        AuditEvent(
            at=happened.at,
            actor=printable(happened.by.name or happened.by.user)[:_ACTOR],
            action=happened.action,
            subject=printable(happened.subject)[:_ACTOR],
            outcome=happened.outcome,
            details=details or {},
            draft=as_json(compose(happened, things, others)),
        )
    )


def study_things(
    session: Session,
    study_instance_uid: str,
    sop_classes: dict[str, int] | None = None,
    *,
    anonymized: bool | None = None,
) -> tuple[Thing, ...]:
    """Return a study and its patient, as messages name them; an unknown study has no patient."""
    row = session.scalar(select(Study).where(Study.study_instance_uid == study_instance_uid))
    whose = (patient(row.patient_id, row.patient_name),) if row else ()
    return (study(study_instance_uid, sop_classes, anonymized=anonymized), *whose)


def record_received(session: Session, association: AssociationRecord, now: datetime) -> None:
    """Note what an association that closed has brought: an event a study, and one for what was set aside."""
    sender = events.peer(association.calling_ae_title, association.address, codes.SOURCE, is_requestor=True)
    us = events.peer(association.called_ae_title, association.host, codes.DESTINATION)
    outcome = Outcome.MINOR_FAILURE if association.outcome in _FAILED else Outcome.SUCCESS
    told = f"The association was {association.outcome}." if outcome else ""
    details: dict[str, Any] = {"association": association.id, "ended": association.outcome}
    for uid, new in _brought(session, association.id).items():
        action = "study received" if new else "study received again"
        happened = Happening(action, uid, now, sender, outcome, told)
        things = study_things(session, uid, new)
        add(session, happened, things, (us,), details | {"instances": sum(new.values())})
    set_aside = session.scalar(select(func.count()).where(Quarantined.association_id == association.id))
    if set_aside:
        told = f"{set_aside} files cannot be indexed and were set aside."
        happened = Happening("files quarantined", association.id, now, sender, Outcome.MINOR_FAILURE, told)
        add(session, happened, (), (us,), details | {"files": set_aside})


def _brought(session: Session, association_id: str) -> dict[str, dict[str, int]]:
    """Count the instances that came new with an association, by study and SOP class; copies are not."""
    carried = select(AssociationStudy.study_instance_uid).where(
        AssociationStudy.association_id == association_id
    )
    found: dict[str, dict[str, int]] = {uid: {} for uid in sorted(session.scalars(carried))}
    counted = (
        select(Study.study_instance_uid, Instance.sop_class_uid, func.count())
        .join(Study, Study.id == Instance.study_id)
        .where(Instance.association_id == association_id)
        .group_by(Study.study_instance_uid, Instance.sop_class_uid)
        .order_by(Instance.sop_class_uid)
    )
    for uid, sop_class_uid, count in session.execute(counted):
        found.setdefault(uid, {})[sop_class_uid] = count
    return found


def record_sent(
    session: Session, delivery: Delivery, receiver: Participant, sop_classes: Counter[str], now: datetime
) -> None:
    """Note that an output group went to a peer, or ended without arriving.

    Args:
        session: In the transaction that ends the delivery.
        delivery: What was sent, in its new state.
        receiver: The destination, in the role of one.
        sop_classes: How many instances the peer stored, by SOP class.
        now: When.
    """
    uid = delivery.analysis.study.study_instance_uid
    outcome = Outcome.SUCCESS if sop_classes else Outcome.SERIOUS_FAILURE
    us = events.program(Process("worker --queue delivery"), codes.SOURCE)
    told = "" if sop_classes else f"The delivery is {delivery.state}."
    happened = Happening("results sent", uid, now, us, outcome, told)
    details = {"delivery": delivery.id, "destination": delivery.destination, "group": delivery.group}
    state = {"state": delivery.state, "instances": sop_classes.total()}
    add(session, happened, study_things(session, uid, dict(sop_classes)), (receiver,), details | state)


def record_query(
    session: Session, by: Participant, responder: Participant, query: Query, now: datetime
) -> None:
    """Note that somebody asked a peer, in the role of a destination, for something."""
    asked = Thing(
        "2",
        "3",
        codes.SOP_CLASS_UID,
        query.sop_class_uid,
        query=b64encode(query.identifier).decode(),
        details={"TransferSyntax": query.transfer_syntax_uid},
    )
    who = replace(by, role=codes.SOURCE)
    happened = Happening("peer queried", query.sop_class_uid, now, who)
    add(session, happened, (asked,), (responder,), {"peer": responder.user, "by": list(query.attributes)})


def record_activity(session: Session, action: str, process: Process, ae_title: str, at: datetime) -> None:
    """Note that a program started or stopped."""
    what = events.program(process, codes.APPLICATION, ae_title=ae_title)
    add(session, Happening(action, process.program, at, what))


def tell_activity(engine: Engine, action: str, program: str, ae_title: str, at: datetime) -> None:
    """Note that this program started or stopped; a database that is away is no reason not to."""
    try:
        with transaction(engine) as session:
            record_activity(session, action, Process(program), ae_title, at)
    except UnavailableError as error:
        _LOG.warning("%s: not in the audit trail. %s", action, error)


@dataclass(frozen=True)
class Refusal:
    """A peer that was turned away so often for one reason."""

    action: str  # "association rejected" or "connection refused"
    reason: str
    address: str
    calling_ae_title: str
    called_ae_title: str
    count: int
    at: datetime  # the last time


def record_refusal(session: Session, refused: Refusal, by: Process, **details: Any) -> None:
    """Note that one of our processes turned a peer away. Source: PS3.15 A.5.3.11."""
    who = events.peer(refused.calling_ae_title, refused.address)
    us = events.program(by, ae_title=refused.called_ae_title, is_requestor=False)
    told = f"{refused.reason} ({refused.count} times)"
    happened = Happening(
        refused.action, refused.address or "unknown", refused.at, who, Outcome.MINOR_FAILURE, told
    )
    what = {"reason": refused.reason, "count": refused.count, "called_ae_title": refused.called_ae_title}
    add(session, happened, others=(us,), details=what | details)
