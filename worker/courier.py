"""The courier: takes one delivery from its row to its destination and writes down what became of it.

A delivery waits until those before it, of the same analysis to the same destination, have ended: the report
arrives before its heatmaps, over the same association.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.deliveries import next_delivery
from db.models import Delivery, DeliveryState
from db.session import transaction
from db.work import DELIVERIES, Claim, Retry, claim, fail, finish, give_back, new_owner, note
from lungnode.errors import LungnodeError, UnusableError
from lungnode.settings import SenderDestination, Settings
from worker.addressing import destination_named, return_address
from worker.answers import Meaning
from worker.audited import note_delivery
from worker.carriers.line import Addressed, Carrier, Line
from worker.confirm import begin_confirmation
from worker.hold import Node, Stopped, kept
from worker.load import UNFINISHED, Load, beside, read_load
from worker.parcel import Parcel

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
    with Line() as line:
        waiting = _deliver(node, row_id, line)
        while waiting and not node.stopping():
            waiting = _deliver(node, waiting[0], line)
    return waiting


def _deliver(node: Node, row_id: int, line: Line) -> list[int]:
    """Send one delivery; return those that waited for it."""
    held = Claim(DELIVERIES, row_id, new_owner())
    with transaction(node.engine) as session:
        row = session.get(Delivery, row_id)
        if row is None or _is_behind(session, row):
            return []
        if not claim(session, held, node.clock(), node.settings.delivery.lease_s):
            return []
        session.refresh(row)  # the claim counted the attempt
        load = read_load(session, node.settings, row)
    end = _attempt(node, held, load, line)
    with transaction(node.engine) as session:
        state = _record(session, node, held, end)
        if state and state not in UNFINISHED:
            note_delivery(session, node, row_id, end.parcel, _place(node.settings, load))
        if state == DeliveryState.STORED:
            begin_confirmation(session, node, row)
        _tell(row, end, state)
        return [] if state in UNFINISHED else _followers(session, row)


@dataclass(frozen=True)
class _End:
    """How an attempt ended: how far it came, and why no farther."""

    parcel: Parcel
    reason: str = ""
    advice: str = ""
    told: str = ""  # the reason without what a peer said: it may name a patient
    is_final: bool = False


def _attempt(node: Node, held: Claim, load: Load, line: Line) -> _End:
    settings, parcel = node.settings, load.parcel
    try:
        destination = _destination(settings, load)
        with kept(node, held, settings.delivery.lease_s) as lost:
            carrier = line.to(destination, settings.receiver.ae_title, load.proposal)
            parcel = _negotiated(node, held, parcel, carrier)
            for further in _sent(parcel, carrier, lambda: node.stopping() or lost.is_set()):
                parcel = further  # kept, whatever ends the loop
    except LungnodeError as error:
        return _End(parcel, str(error), error.advice, str(error), isinstance(error, UnusableError))
    except OSError as error:
        return _End(parcel, str(error), "See why the file cannot be read.", str(error))
    except Stopped:
        return _End(parcel)
    except Exception as error:  # noqa: BLE001 - one delivery must never stop the others; its row tells the story
        reason = f"{type(error).__name__}, {error}"
        return _End(parcel, reason, "It is an error of Lungnode: report it.", type(error).__name__)
    return _End(parcel, parcel.trouble(), parcel.advice, parcel.trouble(quote=False), parcel.settled)


def _negotiated(node: Node, held: Claim, parcel: Parcel, carrier: Carrier) -> Parcel:
    """Fix the class of a report in its row before its first byte: another class is another object.

    Raises:
        Stopped: The row was taken back.
    """
    chosen = parcel.chosen(_accepted_group(carrier, parcel))
    if not parcel.negotiated:
        with transaction(node.engine) as session:
            if not note(session, held, {"group": chosen.group, "negotiated_at": node.clock()}):
                raise Stopped
    return chosen


def _accepted_group(carrier: Carrier, parcel: Parcel) -> str:
    for group, items in parcel.choices.items():
        if all(carrier.accepts(item.sop_class_uid) for item in items):
            return group
    return parcel.group


def _sent(parcel: Parcel, carrier: Carrier, stopping: Callable[[], bool]) -> Iterator[Parcel]:
    """Send what is left to send; give the parcel after each answer.

    Raises:
        UnavailableError: There is no way to the peer any more.
        UnusableError: The peer will never take anything.
        OSError: A file cannot be read.
    """
    for item in parcel.items:
        if item.settled:
            continue
        if stopping():
            return
        answer = carrier.send(item)
        parcel = parcel.with_item(item.answered(answer))
        yield parcel
        if not answer.status:
            return


def _record(session: Session, node: Node, held: Claim, end: _End) -> str:
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
    if node.stopping() and not any(item.meaning is Meaning.AGAIN and item.tries for item in items):
        return DeliveryState.PENDING if give_back(session, held, now, values) else ""
    limits = node.settings.delivery
    retry = Retry(limits.max_attempts, limits.backoff_s, limits.backoff_max_s)
    return fail(session, held, values, retry, now)


def _tell(row: Delivery, end: _End, state: str) -> None:
    place = f"delivery {row.id} of {end.parcel.group} to {row.destination}"
    if end.told:
        _LOG.warning("%s: %s. %s", place, state or "taken back", end.told)
    else:
        _LOG.info("%s: %s", place, state or "taken back")


def _destination(settings: Settings, load: Load) -> Addressed:
    if not load.parcel.choices:
        raise UnusableError(f"The analysis has no output {load.parcel.group!r}.")
    destination = destination_named(settings, load.destination)
    if isinstance(destination, SenderDestination):
        return return_address(settings, destination, *load.sender)
    return destination


def _place(settings: Settings, load: Load) -> Addressed | None:
    try:
        return _destination(settings, load)
    except UnusableError:
        return None


def _is_behind(session: Session, row: Delivery) -> bool:
    earlier = select(Delivery.id).where(*beside(row), Delivery.id < row.id, Delivery.state.in_(UNFINISHED))
    return session.scalar(earlier.limit(1)) is not None


def _followers(session: Session, row: Delivery) -> list[int]:
    waiting = select(Delivery.id).where(*beside(row), Delivery.state == DeliveryState.PENDING)
    return list(session.scalars(waiting.order_by(Delivery.id).limit(1)))
