"""The courier: takes one delivery from its row to its destination and writes down what became of it.

A delivery waits until those before it, of the same analysis to the same destination, have ended: the report
arrives before its heatmaps.
"""

import logging
from collections.abc import Callable
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from db.models import Analysis, Delivery, DeliveryState
from db.session import transaction
from db.work import DELIVERIES, Claim, Retry, claim, fail, finish, give_back
from lungnode.errors import UnavailableError, UnusableError
from lungnode.settings import Destination, Settings
from worker.destination import Peer, associated
from worker.hold import Node, kept, new_owner
from worker.parcel import Item, Meaning, Parcel, groups_to_choose_from, recalled

_LOG = logging.getLogger(__name__)
_UNFINISHED = (DeliveryState.PENDING, DeliveryState.SENDING)


def deliver_row(node: Node, row_id: int) -> list[int]:
    """Send one delivery if it is due and nobody else has it; return the deliveries that waited for it."""
    held = Claim(DELIVERIES, row_id, new_owner())
    with transaction(node.engine) as session:
        row = session.get(Delivery, row_id)
        if row is None or _is_behind(session, row):
            return []
        if not claim(session, held, node.clock(), node.settings.delivery.lease_s):
            return []
        session.refresh(row)  # the claim counted the attempt
        parcel = _read_parcel(session, node.settings, row)
    parcel, reason, ended = _attempt(node, held, row.destination, parcel)
    with transaction(node.engine) as session:
        state = _record(session, node, held, parcel, reason, ended=ended)
        _tell(row, parcel, state, reason)
        return [] if state in _UNFINISHED else _followers(session, row)


def _tell(row: Delivery, parcel: Parcel, state: str, reason: str) -> None:
    place = f"delivery {row.id} of {parcel.group} to {row.destination}"
    if not reason:
        _LOG.info("%s: %s", place, state or "taken back")
        return
    # A peer's comment may name the patient: it stays in the row.
    why = parcel.without_comments().trouble() if reason == parcel.trouble() else reason
    _LOG.warning("%s: %s. %s", place, state or "taken back", why)


def send(
    parcel: Parcel, destination: Destination, calling_ae_title: str, stopping: Callable[[], bool]
) -> Parcel:
    """Send what is left to send over one association, and return the parcel with the peer's answers.

    Raises:
        UnavailableError: No association for now.
        UnusableError: The peer will never accept it.
        OSError: A file cannot be read.
    """
    if not parcel.choices:
        raise UnusableError(f"The analysis has no output {parcel.group!r}.")
    with associated(destination, calling_ae_title, _proposal(parcel)) as peer:
        parcel = parcel.chosen(_accepted_group(peer, parcel))
        for item in parcel.items:
            if item.settled:
                continue
            if stopping():
                break
            answer = peer.store(item.path, item.transfer_syntax_uid, item.sop_class_uid)
            parcel = parcel.with_item(item.answered(answer))
            if answer.status is None:
                break
    return parcel


def _attempt(node: Node, held: Claim, name: str, parcel: Parcel) -> tuple[Parcel, str, bool]:
    """Return the parcel as far as it was sent, why no farther, and whether that is for good."""
    settings = node.settings
    try:
        destination = _destination(settings, name)
        calling = destination.calling_ae_title or settings.receiver.ae_title
        with kept(node, held, settings.delivery.lease_s) as lost:
            parcel = send(parcel, destination, calling, lambda: node.stopping() or lost.is_set())
    except UnusableError as error:
        return parcel, str(error), True
    except (UnavailableError, OSError) as error:
        return parcel, str(error), False
    except Exception as error:  # noqa: BLE001 - one delivery must never stop the others; its row tells the story
        return parcel, f"{type(error).__name__}, {error}", False
    return parcel, parcel.trouble(), parcel.settled


def _record(session: Session, node: Node, held: Claim, parcel: Parcel, reason: str, *, ended: bool) -> str:
    """Write down how the attempt ended; return the delivery's new state, empty when the row was lost."""
    tried = [item.as_record() for item in parcel.items if item.tries]
    values: dict[str, Any] = {"group": parcel.group, "instances": tried, "reason": reason}
    now = node.clock()
    if ended:
        state = DeliveryState.REFUSED if reason else DeliveryState.STORED
        return state if finish(session, held, values | {"state": state, "finished_at": now}) else ""
    if node.stopping() and not any(item.meaning is Meaning.AGAIN and item.tries for item in parcel.items):
        return DeliveryState.PENDING if give_back(session, held, now, values) else ""
    limits = node.settings.delivery
    retry = Retry(limits.max_attempts, limits.backoff_s, limits.backoff_max_s)
    return fail(session, held, values, retry, now)


def _read_parcel(session: Session, settings: Settings, row: Delivery) -> Parcel:
    outputs = session.get_one(Analysis, row.analysis_id).outputs
    # A report's class is open until an instance of it was sent: another class has another SOP Instance UID.
    groups = (row.group,) if row.instances else groups_to_choose_from(row.group)
    choices = {}
    for group in groups:
        items = [
            Item(
                path=settings.outputs / output.path,
                sop_class_uid=output.sop_class_uid,
                sop_instance_uid=output.sop_instance_uid,
                resent=row.attempts > 1,
            )
            for output in outputs
            if output.group == group
        ]
        if items:
            choices[group] = tuple(recalled(item, row.instances) for item in items)
    return Parcel(row.group, choices)


def _proposal(parcel: Parcel) -> dict[str, set[str]]:
    proposed: dict[str, set[str]] = {}
    for items in parcel.choices.values():
        for item in items:
            proposed.setdefault(item.sop_class_uid, set()).add(item.transfer_syntax_uid)
    return proposed


def _accepted_group(peer: Peer, parcel: Parcel) -> str:
    accepted = (
        group for group, items in parcel.choices.items() if all(peer.accepts(i.sop_class_uid) for i in items)
    )
    return next(accepted, parcel.group)


def _destination(settings: Settings, name: str) -> Destination:
    for destination in settings.destinations:
        if destination.name == name:
            return destination
    raise UnusableError(f"The settings name no destination {name!r} any more.")


def _is_behind(session: Session, row: Delivery) -> bool:
    earlier = _beside(row).where(Delivery.id < row.id, Delivery.state.in_(_UNFINISHED)).limit(1)
    return session.scalar(earlier) is not None


def _followers(session: Session, row: Delivery) -> list[int]:
    return list(session.scalars(_beside(row).where(Delivery.state == DeliveryState.PENDING).limit(1)))


def _beside(row: Delivery) -> Select[int]:
    same = (Delivery.analysis_id == row.analysis_id, Delivery.destination == row.destination)
    return select(Delivery.id).where(*same).order_by(Delivery.id)
