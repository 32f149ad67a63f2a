"""The courier: takes one delivery from its row to its destination and writes down what became of it.

A delivery waits until those before it, of the same analysis to the same destination, have ended: the report
arrives before its heatmaps, over the same association.
"""

import logging
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.deliveries import is_behind, next_delivery, overtaken_by
from db.models import Delivery, DeliveryState
from db.session import transaction
from db.work import DELIVERIES, Claim, Retry, claim, fail, finish, give_back, new_owner
from worker.answers import Meaning
from worker.attempt import End, attempt, place_of
from worker.audited import note_delivery
from worker.carriers.line import Line
from worker.confirm import begin_confirmation
from worker.hold import Node
from worker.load import UNFINISHED, beside, read_load
from worker.rejections import end_withdrawn

_LOG = logging.getLogger(__name__)


def deliver_due(node: Node) -> None:
    """Send what is due, the most urgent first, until there is nothing more that may be sent now."""
    while not node.stopping():
        with transaction(node.engine) as session:
            row_id = next_delivery(session, node.clock(), node.settings.delivery.per_destination)
        if row_id is None:
            return
        deliver_row(node, row_id)


def deliver_row(node: Node, row_id: int) -> list[int]:
    """Send one delivery if it is due and nobody else has it, then those that waited for it.

    All go over one association. Returns those that still wait, where the worker has to stop.
    """
    with Line(node.settings.delivery.slowest_bytes_s) as line:
        waiting = _deliver(node, row_id, line)
        while waiting and not node.stopping():
            waiting = _deliver(node, waiting[0], line)
    return waiting


def _deliver(node: Node, row_id: int, line: Line) -> list[int]:
    """Send one delivery; return those that waited for it."""
    held = Claim(DELIVERIES, row_id, new_owner())
    with transaction(node.engine) as session:
        row = session.get(Delivery, row_id)
        if row is None or is_behind(session, row_id):
            return []
        if not claim(session, held, node.clock(), node.settings.delivery.lease_s):
            return []
        session.refresh(row)  # the claim counted the attempt
        if end_withdrawn(session, held, row, node.clock()):
            return _followers(session, row)
        if (newer := overtaken_by(session, row)) is not None:
            _withdraw(session, held, newer, node.clock())
            return []
        load = read_load(session, node, row)
    end = attempt(node, held, load, line)
    with transaction(node.engine) as session:
        state = _record(session, node, held, end)
        if state and state not in UNFINISHED:
            note_delivery(session, node, row_id, end.parcel, place_of(node.settings, load))
        if state == DeliveryState.STORED:
            begin_confirmation(session, node, row)
        _tell(row, end, state)
        return [] if state in UNFINISHED else _followers(session, row)


def _withdraw(session: Session, held: Claim, revision: int, now: datetime) -> None:
    reason = f"Revision {revision} of the study took its place before it was sent."
    finish(session, held, {"state": DeliveryState.WITHDRAWN, "reason": reason, "finished_at": now})


def _record(session: Session, node: Node, held: Claim, end: End) -> str:
    """Write down how the attempt ended; return the delivery's new state, empty when the row was lost."""
    items, now = end.parcel.items, node.clock()
    values: dict[str, Any] = {
        "group": end.parcel.group,
        "instances": [item.as_record() for item in items if item.tries],
        "reason": end.reason,
        "advice": end.advice,
    }
    if end.is_final:
        state = DeliveryState.REFUSED if end.reason else DeliveryState.STORED
        return state if finish(session, held, values | {"state": state, "finished_at": now}) else ""
    limits = node.settings.delivery
    if end.waits:
        later = now + timedelta(seconds=limits.backoff_s)
        return DeliveryState.PENDING if give_back(session, held, later, values) else ""
    if node.stopping() and not any(item.meaning is Meaning.AGAIN and item.tries for item in items):
        return DeliveryState.PENDING if give_back(session, held, now, values) else ""
    retry = Retry(limits.max_attempts, limits.backoff_s, limits.backoff_max_s)
    return fail(session, held, values, retry, now)


def _tell(row: Delivery, end: End, state: str) -> None:
    place = f"delivery {row.id} of {end.parcel.group} to {row.destination}"
    if end.told:
        _LOG.warning("%s: %s. %s", place, state or "taken back", end.told)
    else:
        _LOG.info("%s: %s", place, state or "taken back")


def _followers(session: Session, row: Delivery) -> list[int]:
    waiting = select(Delivery.id).where(*beside(row), Delivery.state == DeliveryState.PENDING)
    return list(session.scalars(waiting.order_by(Delivery.id).limit(1)))
