"""Asks destinations whether they keep what they stored: by storage commitment, else by C-FIND.

Storage commitment is asked first, where the settings leave it open. Its report usually comes to our receiver,
and is taken by the clerk. When it is overdue, or the peer offers none, the instances are looked for.
"""

import logging
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import confirmations
from db.models import Analysis, Confirmation, ConfirmationMethod, ConfirmationState, Delivery, Output, Study
from db.session import transaction
from db.work import CONFIRMATIONS, Claim, Retry, claim, fail, finish, most_urgent, new_owner, note
from lungnode.commitment import Commitment, FailureReason, Reference
from lungnode.errors import LungnodeError, SettingsError, UnavailableError, UnusableError
from lungnode.identifiers import to_uid
from lungnode.scu.commitment import committing
from lungnode.settings import DicomDestination, SenderDestination, Settings
from worker.addressing import destination_named, return_address
from worker.found import not_found
from worker.hold import Node, kept

_LOG = logging.getLogger(__name__)
# Requests that fail, before the instances are looked for instead.
_REQUESTS: Final = 3
# Looks for instances, before those that are not found are sent again: a PACS may index late.
_LOOKS: Final = 3


@dataclass(frozen=True)
class _Question:
    """What one destination is asked about."""

    method: str
    attempts: int
    confirm: str  # the destination's setting
    destination: DicomDestination
    calling_ae_title: str
    study: Study
    outputs: tuple[Output, ...]

    @property
    def may_query(self) -> bool:
        """Whether finding the instances counts."""
        return self.confirm in ("auto", "query")


def begin_confirmation(session: Session, node: Node, delivery: Delivery) -> None:
    """Have a delivery that was just stored confirmed, as its destination's settings say."""
    try:
        destination = destination_named(node.settings, delivery.destination)
    except UnusableError:
        return
    confirm = getattr(destination, "confirm", "none")
    if confirm != "none":
        method = ConfirmationMethod.QUERY if confirm == "query" else ConfirmationMethod.COMMITMENT
        confirmations.begin(session, delivery.id, method, node.clock())


def confirm_due(node: Node) -> None:
    """Ask about every delivery that is due, until there is none."""
    tried: set[int] = set()
    while not node.stopping():
        with transaction(node.engine) as session:
            urgent = most_urgent(session, CONFIRMATIONS, node.clock(), limit=50)
            due = [row for row in urgent if row not in tried]
        if not due:
            return
        tried.add(due[0])
        confirm_row(node, due[0])


def confirm_row(node: Node, row_id: int) -> None:
    """Ask about one delivery, if that is due and nobody else does."""
    held = Claim(CONFIRMATIONS, row_id, new_owner())
    with transaction(node.engine) as session:
        if not claim(session, held, node.clock(), node.settings.delivery.lease_s):
            return
        row = session.get_one(Confirmation, row_id)
        try:
            question = _question(session, node.settings, row)
        except LungnodeError as error:
            _end(session, node, held, str(error))
            return
        if question.attempts > node.settings.delivery.max_attempts:
            _end(session, node, held, "No report has come to any request.")
            return
    with kept(node, held, node.settings.delivery.lease_s):
        _ask(node, held, question)


def _ask(node: Node, held: Claim, question: _Question) -> None:
    try:
        if question.method == ConfirmationMethod.COMMITMENT:
            _request(node, held, question)
        else:
            _look(node, held, question)
    except (UnusableError, SettingsError) as error:
        _turn(node, held, question, str(error))
    except UnavailableError as error:
        _put_off(node, held, question, str(error))


def _question(session: Session, settings: Settings, row: Confirmation) -> _Question:
    delivery = row.delivery
    study = session.get_one(Study, session.get_one(Analysis, delivery.analysis_id).study_id)
    destination = _addressed(settings, delivery.destination, study)
    return _Question(
        method=row.method,
        attempts=row.attempts,
        confirm=destination.confirm,
        destination=destination,
        calling_ae_title=destination.calling_ae_title or settings.receiver.ae_title,
        study=study,
        outputs=tuple(confirmations.outputs_of(session, delivery)),
    )


def _addressed(settings: Settings, name: str, study: Study) -> DicomDestination:
    destination = destination_named(settings, name)
    if isinstance(destination, SenderDestination):
        return return_address(settings, destination, study.calling_ae_title, study.address)
    if isinstance(destination, DicomDestination):
        return destination
    raise UnusableError(f"Destination {name} is of a kind that is not asked.")


def _request(node: Node, held: Claim, question: _Question) -> None:
    transaction_uid = str(to_uid(uuid4()))
    asked = tuple(Reference(each.sop_class_uid, each.sop_instance_uid) for each in question.outputs)
    with transaction(node.engine) as session:
        confirmations.begin_transaction(session, held.row_id, transaction_uid, node.clock())
    calling = question.calling_ae_title
    with committing(question.destination, calling, lambda report: _take(node, report)) as scp:
        scp.request(Commitment(transaction_uid, asked))
        _await(node, held, question)
        scp.linger(node.settings.commitment.linger_s, lambda: _is_told(node, held))


def _await(node: Node, held: Claim, question: _Question) -> None:
    """Let the row wait for the report, to a limit, unless that has come already."""
    wait = timedelta(seconds=node.settings.commitment.answer_s)
    values: dict[str, Any] = {
        "state": ConfirmationState.AWAITING,
        "due_at": node.clock() + wait,
        "reason": "",
    }
    values |= {"woken_at": None}
    if question.may_query:
        values |= {"method": ConfirmationMethod.QUERY, "attempts": 0}
    with transaction(node.engine) as session:
        finish(session, held, values)


def _take(node: Node, report: Commitment) -> None:
    with transaction(node.engine) as session:
        state = confirmations.apply_report(session, report, _retry(node), node.clock())
    _LOG.info("commitment of transaction %s reported: %s", report.transaction_uid, state or "not ours")


def _is_told(node: Node, held: Claim) -> bool:
    with transaction(node.engine) as session:
        return session.get_one(Confirmation, held.row_id).state != ConfirmationState.AWAITING


def _look(node: Node, held: Claim, question: _Question) -> None:
    missing = not_found(question.destination, question.calling_ae_title, question.study, question.outputs)
    if missing and question.attempts < _LOOKS:
        raise UnavailableError(f"C-FIND does not find {len(missing)} of {len(question.outputs)} instances.")
    failures = dict.fromkeys(missing, f"0x{FailureReason.NO_SUCH_OBJECT_INSTANCE:04X}")
    with transaction(node.engine) as session:
        row = session.scalar(select(Confirmation).where(Confirmation.id == held.row_id).with_for_update())
        if row is not None and row.lease_owner == held.owner:
            confirmations.conclude(
                session, row, ConfirmationMethod.QUERY, failures, _retry(node), node.clock()
            )


def _turn(node: Node, held: Claim, question: _Question, reason: str) -> None:
    """Ask in the other way at once, or give up when there is none."""
    is_last = question.method == ConfirmationMethod.QUERY or not question.may_query
    other: dict[str, Any] = {"method": ConfirmationMethod.QUERY, "attempts": 1, "reason": reason}
    with transaction(node.engine) as session:
        if is_last:
            _end(session, node, held, reason)
            return
        if not note(session, held, other):
            return
    _ask(node, held, replace(question, method=ConfirmationMethod.QUERY, attempts=1))


def _end(session: Session, node: Node, held: Claim, reason: str) -> None:
    values = {"state": ConfirmationState.UNCONFIRMED, "reason": reason, "finished_at": node.clock()}
    finish(session, held, values)
    _LOG.info("confirmation %d: unconfirmed. %s", held.row_id, reason)


def _put_off(node: Node, held: Claim, question: _Question, reason: str) -> None:
    is_asked = question.method == ConfirmationMethod.COMMITMENT and question.attempts >= _REQUESTS
    if is_asked and question.may_query:
        _turn(node, held, question, reason)
        return
    with transaction(node.engine) as session:
        fail(session, held, {"reason": reason}, _retry(node), node.clock())


def _retry(node: Node) -> Retry:
    limits = node.settings.delivery
    return Retry(limits.max_attempts, limits.backoff_s, limits.backoff_max_s)
