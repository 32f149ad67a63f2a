"""The courier: takes one delivery from its row to its destination and writes down what became of it.

A delivery waits until those before it, of the same analysis to the same destination, have ended: the report
arrives before its heatmaps, over the same association.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from db.models import Analysis, Delivery, DeliveryState, Study
from db.session import transaction
from db.work import DELIVERIES, Claim, Retry, claim, fail, finish, give_back
from lungnode.errors import UnavailableError, UnusableError
from lungnode.settings import DicomDestination, Settings
from worker.addressing import addressed, destination_named
from worker.destination import Line, StorageScp
from worker.hold import Node, kept, new_owner
from worker.parcel import Item, Meaning, Parcel, groups_to_choose_from, recalled

_LOG = logging.getLogger(__name__)
_UNFINISHED = (DeliveryState.PENDING, DeliveryState.SENDING)


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
        load = _read_load(session, node.settings, row)
    parcel, reason, ended = _attempt(node, held, load, line)
    with transaction(node.engine) as session:
        state = _record(session, node, held, parcel, reason, ended=ended)
        _tell(row, parcel, state, reason)
        return [] if state in _UNFINISHED else _followers(session, row)


@dataclass(frozen=True)
class _Load:
    """What one delivery sends, and what follows it over the same association."""

    destination: str
    sender: tuple[str, str]  # AE title and address of who sent the study
    parcel: Parcel
    followers: tuple[Parcel, ...]

    def proposal(self) -> dict[str, set[str]]:
        """Return the transfer syntaxes of all instances, by SOP class."""
        proposed: dict[str, set[str]] = {}
        for parcel in (self.parcel, *self.followers):
            for item in chain.from_iterable(parcel.choices.values()):
                proposed.setdefault(item.sop_class_uid, set()).add(item.transfer_syntax_uid)
        return proposed


def _tell(row: Delivery, parcel: Parcel, state: str, reason: str) -> None:
    place = f"delivery {row.id} of {parcel.group} to {row.destination}"
    if not reason:
        _LOG.info("%s: %s", place, state or "taken back")
        return
    # A peer's comment may name the patient: it stays in the row.
    why = parcel.without_comments().trouble() if reason == parcel.trouble() else reason
    _LOG.warning("%s: %s. %s", place, state or "taken back", why)


def _send(parcel: Parcel, scp: StorageScp, stopping: Callable[[], bool]) -> Parcel:
    """Send what is left to send, and return the parcel with the peer's answers.

    Raises:
        UnusableError: The peer takes nothing of it.
        OSError: A file cannot be read.
    """
    parcel = parcel.chosen(_accepted_group(scp, parcel))
    for item in parcel.items:
        if item.settled:
            continue
        if stopping():
            break
        answer = scp.store(item.path, item.transfer_syntax_uid, item.sop_class_uid)
        parcel = parcel.with_item(item.answered(answer))
        if answer.status is None:
            break
    return parcel


def _attempt(node: Node, held: Claim, load: _Load, line: Line) -> tuple[Parcel, str, bool]:
    """Return the parcel as far as it was sent, why no farther, and whether that is for good."""
    settings, parcel = node.settings, load.parcel
    try:
        destination = _destination(settings, load)
        calling = destination.calling_ae_title or settings.receiver.ae_title
        with kept(node, held, settings.delivery.lease_s) as lost:
            scp = line.scp(destination, calling, load.proposal)
            parcel = _send(parcel, scp, lambda: node.stopping() or lost.is_set())
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


def _read_load(session: Session, settings: Settings, row: Delivery) -> _Load:
    after = select(Delivery).where(*_beside(row), Delivery.id > row.id, Delivery.state.in_(_UNFINISHED))
    followers = (_read_parcel(session, settings, each) for each in session.scalars(after))
    study = session.get_one(Study, session.get_one(Analysis, row.analysis_id).study_id)
    sender = (study.calling_ae_title, study.address)
    return _Load(row.destination, sender, _read_parcel(session, settings, row), tuple(followers))


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


def _accepted_group(scp: StorageScp, parcel: Parcel) -> str:
    accepted = (
        group for group, items in parcel.choices.items() if all(scp.accepts(i.sop_class_uid) for i in items)
    )
    return next(accepted, parcel.group)


def _destination(settings: Settings, load: _Load) -> DicomDestination:
    if not load.parcel.choices:
        raise UnusableError(f"The analysis has no output {load.parcel.group!r}.")
    return addressed(settings, destination_named(settings, load.destination), *load.sender)


def _is_behind(session: Session, row: Delivery) -> bool:
    earlier = select(Delivery.id).where(*_beside(row), Delivery.id < row.id, Delivery.state.in_(_UNFINISHED))
    return session.scalar(earlier.limit(1)) is not None


def _followers(session: Session, row: Delivery) -> list[int]:
    waiting = select(Delivery.id).where(*_beside(row), Delivery.state == DeliveryState.PENDING)
    return list(session.scalars(waiting.order_by(Delivery.id).limit(1)))


def _beside(row: Delivery) -> tuple[ColumnElement[bool], ...]:
    return Delivery.analysis_id == row.analysis_id, Delivery.destination == row.destination
