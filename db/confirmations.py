"""Confirmations of deliveries: begun when one is stored, ended by what its destination says.

The caller owns the transaction.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import (
    CommitmentTransaction,
    Confirmation,
    ConfirmationMethod,
    ConfirmationState,
    Delivery,
    DeliveryState,
    Output,
)
from db.work import Retry
from lungnode.commitment import Commitment, FailureReason

MOST_RESENDS: Final = 3
NOT_MENTIONED: Final = "not mentioned"
# What sending again does not change.
_PERMANENT: Final = (
    f"0x{FailureReason.CLASS_INSTANCE_CONFLICT:04X}",
    f"0x{FailureReason.REFERENCED_SOP_CLASS_NOT_SUPPORTED:04X}",
)
_ASK_AGAIN: Final = f"0x{FailureReason.DUPLICATE_TRANSACTION_UID:04X}"
_ADVICE: Final = "Ask who runs the peer why it does not keep what it stored."


def begin(session: Session, delivery_id: int, method: ConfirmationMethod, now: datetime) -> None:
    """Have a stored delivery confirmed; one that was sent again is asked for again."""
    row = session.scalar(select(Confirmation).where(Confirmation.delivery_id == delivery_id))
    if row is None:
        session.add(Confirmation(delivery_id=delivery_id, method=method, due_at=now, created_at=now))
        return
    if row.state != ConfirmationState.RESENT:
        row.resends = 0
    row.state, row.method, row.reason = ConfirmationState.PENDING, method, ""
    row.attempts, row.due_at, row.woken_at, row.finished_at = 0, now, None, None


def outputs_of(session: Session, delivery: Delivery) -> list[Output]:
    """Return what a stored delivery has sent, which need not be all of its group."""
    sent = [record["sop_instance_uid"] for record in delivery.instances]
    query = select(Output).where(
        Output.analysis_id == delivery.analysis_id, Output.sop_instance_uid.in_(sent)
    )
    return list(session.scalars(query.order_by(Output.id)))


def begin_transaction(session: Session, row_id: int, transaction_uid: str, now: datetime) -> None:
    """Note a commitment request before it is sent."""
    session.add(CommitmentTransaction(transaction_uid=transaction_uid, confirmation_id=row_id, asked_at=now))


def apply_report(session: Session, report: Commitment, retry: Retry, now: datetime) -> str:
    """Conclude from a destination's report; returns the confirmation's state.

    Empty: the transaction is not ours, or what it asked for does not matter any more.
    """
    asked = session.get(CommitmentTransaction, report.transaction_uid)
    if asked is None:
        return ""
    row = session.scalar(
        select(Confirmation).where(Confirmation.id == asked.confirmation_id).with_for_update()
    )
    if row is None:
        return ""
    told = {
        each.sop_instance_uid: f"0x{each.failure_reason:04X}"
        for each in report.references
        if each.failure_reason is not None
    }
    mentioned = {each.sop_instance_uid for each in report.references}
    failures = {
        output.sop_instance_uid: told.get(output.sop_instance_uid, NOT_MENTIONED)
        for output in outputs_of(session, row.delivery)
        if output.sop_instance_uid in told or output.sop_instance_uid not in mentioned
    }
    return conclude(session, row, ConfirmationMethod.COMMITMENT, failures, retry, now)


def conclude(
    session: Session,
    row: Confirmation,
    method: ConfirmationMethod,
    failures: Mapping[str, str],
    retry: Retry,
    now: datetime,
) -> str:
    """Write down what a destination says of a delivery; returns the confirmation's state, empty if too late.

    Args:
        session: Within the caller's transaction.
        row: Locked by it.
        method: How the destination was asked.
        failures: Why it does not keep an instance, by SOP Instance UID; empty: it keeps all.
        retry: When what it does not keep is sent again.
        now: The time.
    """
    if not _matters(row, row.delivery, failures):
        return ""
    row.lease_owner, row.lease_until, row.woken_at = "", None, None
    if not failures:
        _confirm(row, method, now)
    elif set(failures.values()) == {_ASK_AGAIN}:
        row.state, row.due_at = ConfirmationState.PENDING, now + retry.wait(row.attempts or 1)
        row.reason = "The destination takes the request for one that it knows."
    else:
        _fail(row, len(outputs_of(session, row.delivery)), failures, retry, now)
    return row.state


def next_step(row: Confirmation) -> str:
    """Say how far a stored delivery is confirmed, in a sentence or two."""
    if row.state == ConfirmationState.AWAITING:
        until = row.due_at.strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"Its destination took a commitment request; it has until {until} to report."
    return f"{_STEPS.get(ConfirmationState(row.state), '')} {row.reason}".strip()


def confirmed_by(row: Confirmation) -> str:
    """Say who confirmed a delivery."""
    by_query = row.method == ConfirmationMethod.QUERY
    return f"Confirmed by {'C-FIND' if by_query else 'storage commitment'}."


_STEPS: Final = {
    ConfirmationState.PENDING: "Its destination will be asked whether it keeps it.",
    ConfirmationState.ASKING: "Its destination is being asked whether it keeps it.",
    ConfirmationState.UNCONFIRMED: "Its destination does not tell whether it keeps it.",
}


def _matters(row: Confirmation, delivery: Delivery, failures: Mapping[str, str]) -> bool:
    if row.state == ConfirmationState.RESENT:
        return False  # the answer is about what was there before
    if row.state == ConfirmationState.FAILED:
        return not failures and delivery.state == DeliveryState.REFUSED
    if row.state == ConfirmationState.CONFIRMED and row.method == ConfirmationMethod.COMMITMENT:
        return False
    return delivery.state in (DeliveryState.STORED, DeliveryState.COMMITTED)


def _confirm(row: Confirmation, method: ConfirmationMethod, now: datetime) -> None:
    row.state, row.method, row.reason = ConfirmationState.CONFIRMED, method, ""
    row.finished_at = now
    row.delivery.state, row.delivery.reason, row.delivery.advice = DeliveryState.COMMITTED, "", ""


def _fail(row: Confirmation, asked: int, failures: Mapping[str, str], retry: Retry, now: datetime) -> None:
    uid, why = next(iter(failures.items()))
    delivery = row.delivery
    row.reason = f"The destination does not keep {len(failures)} of {asked} instances; {uid}: {why}."
    delivery.reason = row.reason
    delivery.instances = [_to_send(record, failures) for record in delivery.instances]
    if row.resends >= MOST_RESENDS or any(each in _PERMANENT for each in failures.values()):
        row.state, row.finished_at = ConfirmationState.FAILED, now
        delivery.state, delivery.advice = DeliveryState.REFUSED, _ADVICE
        return
    row.state = ConfirmationState.RESENT
    row.resends += 1
    wait: timedelta = retry.wait(row.resends)
    # One attempt: it was sent before, so the peer may say that it has it.
    delivery.state, delivery.attempts, delivery.due_at = DeliveryState.PENDING, 1, now + wait
    delivery.woken_at, delivery.finished_at, delivery.advice = None, None, ""


def _to_send(record: dict[str, Any], failures: Mapping[str, str]) -> dict[str, Any]:
    why = failures.get(record["sop_instance_uid"])
    if why is None:
        return record
    return record | {"status": "", "meaning": "again", "comment": f"not kept: {why}", "advice": ""}
