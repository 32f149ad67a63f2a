"""Deliveries as a whole: which one is next, what becomes of one, and another try for what has ended badly."""

from collections import Counter
from collections.abc import Collection
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.orm import Session, aliased, joinedload

from db import audit, confirmations
from db.models import Analysis, Delivery, DeliveryState
from db.work import DELIVERIES, claimable

ENDED_BADLY: Final = (DeliveryState.REFUSED, DeliveryState.DEAD)
# Composed from the report when they are sent; a later revision's takes the place of an earlier one's.
MESSAGE_GROUPS: Final = ("fhir", "hl7")
_VOID: Final = "-void"  # ends the group of a message that takes another of the same analysis back
_UNFINISHED: Final = (DeliveryState.PENDING, DeliveryState.SENDING)


def next_delivery(session: Session, now: datetime, per_destination: int) -> int | None:
    """Return the most urgent delivery that may start now; None when there is none.

    One waits while others have to end first (`is_behind`), and while as many are being sent to its
    destination as may be: a peer that is slow must not hold every courier.
    """
    busy = (
        select(Delivery.destination)
        .where(Delivery.state == DeliveryState.SENDING, Delivery.lease_until >= now)
        .group_by(Delivery.destination)
        .having(func.count() >= per_destination)
    )
    chosen = select(Delivery.id).where(
        *claimable(DELIVERIES, now), ~_behind(), Delivery.destination.not_in(busy)
    )
    return session.scalar(chosen.order_by(*DELIVERIES.order).limit(1))


def void_group(group: str) -> str:
    """Return the group of the message that takes back one of `group`."""
    return group + _VOID


def is_message(group: str) -> bool:
    """Tell whether a group is a message, or takes one back."""
    return group.removesuffix(_VOID) in MESSAGE_GROUPS


def is_void(group: str) -> bool:
    """Tell whether a group takes a message back."""
    return group.endswith(_VOID)


def is_behind(session: Session, row_id: int) -> bool:
    """Tell whether a delivery has to wait for another to the same destination.

    For those before it of the same analysis: the report comes first. For the message of an earlier revision
    that is on its way or has to be taken back: what arrives last is what counts.
    """
    return session.scalar(select(Delivery.id).where(Delivery.id == row_id, _behind())) is not None


def overtaken_by(session: Session, row: Delivery) -> int | None:
    """Return the later revision whose message takes the place of this one; None when there is none."""
    if row.group not in MESSAGE_GROUPS:
        return None
    later, own = aliased(Analysis), aliased(Analysis)
    newest = (
        select(func.max(later.revision))
        .join(Delivery, Delivery.analysis_id == later.id)
        .join(own, own.study_id == later.study_id)
        .where(own.id == row.analysis_id, later.revision > own.revision)
        .where(Delivery.destination == row.destination, Delivery.group == row.group)
    )
    return session.scalar(newest)


def _behind() -> ColumnElement[bool]:
    """Return what holds of a delivery that has to wait."""
    earlier = aliased(Delivery)
    of_same_analysis = exists().where(
        earlier.analysis_id == Delivery.analysis_id,
        earlier.destination == Delivery.destination,
        earlier.id < Delivery.id,
        earlier.state.in_(_UNFINISHED),
    )
    other, its, own = aliased(Delivery), aliased(Analysis), aliased(Analysis)
    of_earlier_revision = exists().where(
        Delivery.group.in_(MESSAGE_GROUPS),
        own.id == Delivery.analysis_id,
        its.study_id == own.study_id,
        its.revision < own.revision,
        other.analysis_id == its.id,
        other.destination == Delivery.destination,
        or_(
            and_(other.group == Delivery.group, other.state == DeliveryState.SENDING),
            and_(other.group == Delivery.group + _VOID, other.state.in_(_UNFINISHED)),
        ),
    )
    return or_(of_same_analysis, of_earlier_revision)


def list_deliveries(session: Session, states: Collection[str] = (), limit: int = 100) -> list[Delivery]:
    """Return the newest deliveries with analysis and study, of all states unless some are named."""
    with_study = joinedload(Delivery.analysis).joinedload(Analysis.study)
    options = (with_study, joinedload(Delivery.confirmation))
    query = select(Delivery).options(*options).order_by(Delivery.id.desc()).limit(limit)
    if states:
        query = query.where(Delivery.state.in_(states))
    return list(session.scalars(query))


def delivery_states(session: Session, analyses: Collection[int]) -> dict[int, Counter[str]]:
    """Count the deliveries of analyses by state."""
    key = (Delivery.analysis_id, Delivery.state)
    counted = select(*key, func.count()).where(Delivery.analysis_id.in_(analyses)).group_by(*key)
    found: dict[int, Counter[str]] = {}
    for analysis_id, state, count in session.execute(counted):
        found.setdefault(analysis_id, Counter())[state] = count
    return found


def next_step(row: Delivery, max_attempts: int) -> str:
    """Say what will happen to a delivery, or what an operator must do and type, in a sentence or two."""
    step = outlook(row, max_attempts)
    return f"{step} Then: lungnode deliveries retry {row.id}" if row.state in ENDED_BADLY else step


def outlook(row: Delivery, max_attempts: int) -> str:
    """Say what will happen to a delivery, or what an operator must do before it is sent again."""
    if row.state == DeliveryState.PENDING and row.attempts:
        when = row.due_at.strftime("%Y-%m-%d %H:%M:%S UTC")
        attempt = f"It is tried again at {when}, attempt {row.attempts + 1} of {max_attempts}."
        return f"{attempt} {row.advice}".strip()
    if row.state in ENDED_BADLY:
        return row.advice or "Mend what the reason says."
    if row.confirmation and row.state == DeliveryState.STORED:
        return confirmations.next_step(row.confirmation)
    if row.confirmation and row.state == DeliveryState.COMMITTED:
        return confirmations.confirmed_by(row.confirmation)
    return _STEPS.get(DeliveryState(row.state), "")


_STEPS: Final = {
    DeliveryState.PENDING: "It waits for a delivery worker, or for the report before it.",
    DeliveryState.SENDING: "It is being sent.",
}


def retry(session: Session, ids: Collection[int] | None, now: datetime) -> list[int]:
    """Make refused and dead deliveries due again, those named or all; return which ones.

    What the peer stored is not sent again. The class of a report is open again where the peer said of every
    instance that it did not keep it; a message is composed anew, with the settings in force. Each is noted in
    the audit trail.
    """
    query = select(Delivery).where(Delivery.state.in_(ENDED_BADLY)).order_by(Delivery.id).with_for_update()
    if ids is not None:
        query = query.where(Delivery.id.in_(ids))
    rows = list(session.scalars(query))
    for row in rows:
        row.state, row.attempts, row.due_at, row.woken_at = DeliveryState.PENDING, 0, now, None
        row.finished_at = None
        if row.instances and all(record["meaning"] == "refused" for record in row.instances):
            row.negotiated_at = None
        row.message = ""
        uid, place = row.analysis.study.study_instance_uid, row.destination
        audit.record(session, "delivery retried", uid, now, delivery=row.id, destination=place)
        row.instances = [record for record in row.instances if record["meaning"] == "stored"]
    return [row.id for row in rows]
