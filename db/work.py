"""The database is the queue: rows are claimed, renewed, given back, failed and taken back here.

Each change is one UPDATE whose WHERE clause is its proof, so it holds between processes and hosts, on SQLite
and on PostgreSQL. The caller owns the transaction.
"""

import os
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import merge
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import BindParameter, ColumnElement, Select, Update, bindparam, or_, select, union_all, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from db.models import (
    Analysis,
    AnalysisState,
    AuditBatch,
    CommitmentRequest,
    CommitmentState,
    Confirmation,
    ConfirmationState,
    Delivery,
    DeliveryState,
    ForwardState,
    Inquiry,
    InquiryState,
    Upload,
    UtcDateTime,
)

Worked = (
    type[Analysis]
    | type[Delivery]
    | type[CommitmentRequest]
    | type[Confirmation]
    | type[Inquiry]
    | type[AuditBatch]
    | type[Upload]
)
Moment = datetime | BindParameter[datetime]


@dataclass(frozen=True)
class Work:
    """What the rows of one table mean as work."""

    row: Worked
    waiting: tuple[str, ...]  # may be claimed when due; the first is the state of work that nobody began
    running: str
    retry: str  # after a transient failure, until due again
    exhausted: str  # after the last attempt
    extra_claims: int  # claims after the last attempt, which only report the failure
    order: tuple[InstrumentedAttribute[Any], ...]


ANALYSES: Final = Work(
    row=Analysis,
    waiting=(AnalysisState.QUEUED, AnalysisState.FAILED),
    running=AnalysisState.RUNNING,
    retry=AnalysisState.FAILED,
    exhausted=AnalysisState.QUARANTINED,
    extra_claims=1,
    order=(Analysis.priority, Analysis.turn, Analysis.due_at, Analysis.id),
)
DELIVERIES: Final = Work(
    row=Delivery,
    waiting=(DeliveryState.PENDING,),
    running=DeliveryState.SENDING,
    retry=DeliveryState.PENDING,
    exhausted=DeliveryState.DEAD,
    extra_claims=0,
    order=(Delivery.priority, Delivery.due_at, Delivery.id),
)
# A commitment request is work twice: for the clerk, then for a courier.
VERIFICATIONS: Final = Work(
    row=CommitmentRequest,
    waiting=(CommitmentState.REQUESTED,),
    running=CommitmentState.VERIFYING,
    retry=CommitmentState.REQUESTED,
    exhausted=CommitmentState.DEAD,
    extra_claims=0,
    order=(CommitmentRequest.due_at, CommitmentRequest.id),
)
REPORTS: Final = Work(
    row=CommitmentRequest,
    waiting=(CommitmentState.VERIFIED,),
    running=CommitmentState.REPORTING,
    retry=CommitmentState.VERIFIED,
    exhausted=CommitmentState.DEAD,
    extra_claims=0,
    order=(CommitmentRequest.due_at, CommitmentRequest.id),
)
# One that waits for a report is due when the report is overdue.
CONFIRMATIONS: Final = Work(
    row=Confirmation,
    waiting=(ConfirmationState.PENDING, ConfirmationState.AWAITING),
    running=ConfirmationState.ASKING,
    retry=ConfirmationState.PENDING,
    exhausted=ConfirmationState.UNCONFIRMED,
    extra_claims=0,
    order=(Confirmation.due_at, Confirmation.id),
)
INQUIRIES: Final = Work(
    row=Inquiry,
    waiting=(InquiryState.PENDING,),
    running=InquiryState.ASKING,
    retry=InquiryState.PENDING,
    exhausted=InquiryState.UNANSWERED,
    extra_claims=0,
    order=(Inquiry.due_at, Inquiry.id),
)
# Batches of the audit trail on their way to the syslog server: never given up.
FORWARDS: Final = Work(
    row=AuditBatch,
    waiting=(ForwardState.PENDING,),
    running=ForwardState.SENDING,
    retry=ForwardState.PENDING,
    exhausted="",
    extra_claims=0,
    order=(AuditBatch.id,),
)
EVERY_WORK: Final = (ANALYSES, DELIVERIES, VERIFICATIONS, REPORTS, CONFIRMATIONS, INQUIRIES, FORWARDS)


@dataclass(frozen=True)
class Claim:
    """One worker's hold on one row."""

    work: Work
    row_id: int
    owner: str  # unique to this claim, so that a message that came twice finds the row taken


def new_owner() -> str:
    """Return a name for one claim: who to look for, and different every time."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


@dataclass(frozen=True)
class Retry:
    """When failed work is tried again, and how often."""

    max_attempts: int
    backoff_s: float  # before the second attempt; doubles each time
    backoff_max_s: float

    def wait(self, attempts: int) -> timedelta:
        """Return the time to wait after so many attempts."""
        # The exponent is capped because 2.0 ** 1024 overflows.
        return timedelta(seconds=min(self.backoff_s * 2.0 ** min(attempts - 1, 60), self.backoff_max_s))


def due(session: Session, work: Work, now: datetime, resend_after_s: float, limit: int = 500) -> list[int]:
    """Mark the rows that a worker should be told of as woken, and return them, most urgent first.

    A row woken less than `resend_after_s` ago is left out: its message is probably still on its way.
    """
    row = work.row
    told_long_ago = or_(row.woken_at.is_(None), row.woken_at <= now - timedelta(seconds=resend_after_s))
    ids = most_urgent(session, work, now, limit, told_long_ago)
    session.execute(_update(work).where(row.id.in_(ids)).values(woken_at=now))
    return ids


def most_urgent(
    session: Session, work: Work, now: datetime, limit: int, *conditions: ColumnElement[bool]
) -> list[int]:
    """Return the rows that may be claimed now, in the order of their urgency."""
    chosen = (_first_waiting(work, state, now, limit).where(*conditions) for state in work.waiting)
    found = [session.execute(each).all() for each in chosen]
    return [row[-1] for row in merge(*found, key=tuple)][:limit]


def _first_waiting(work: Work, state: str, now: Moment, limit: int) -> Select[Any]:
    """Choose the most urgent rows of one state; what they are ordered by, which ends with `id`.

    Of one state, so that an index has them in this order, however many wait.
    """
    due = select(*work.order).where(work.row.state == state, work.row.due_at <= now)
    return due.order_by(*work.order).limit(limit)


def claiming(work: Work, *conditions: ColumnElement[bool]) -> Update:
    """Return the statement that claims the most urgent due row that fulfils the conditions, for `claim_next`.

    Keep it: to build it takes longer than to execute it.
    """
    now: BindParameter[datetime] = bindparam("now", type_=UtcDateTime())
    until: BindParameter[datetime] = bindparam("until", type_=UtcDateTime())
    firsts = [_first_waiting(work, state, now, 1).where(*conditions) for state in work.waiting]
    # Workers that look at the same time would all wait for the first row, and then find it taken.
    locked = [each.with_for_update(skip_locked=True).subquery() for each in firsts]
    found = union_all(*(select(each) for each in locked)).subquery()
    chosen = select(found.c.id).order_by(*found.c).limit(1).scalar_subquery()
    statement = _update(work).where(work.row.id == chosen, *claimable(work, now))
    return statement.values(_leased(work, bindparam("owner"), now, until)).returning(work.row.id)


def claim_next(
    session: Session, work: Work, statement: Update, now: datetime, lease_s: float
) -> Claim | None:
    """Claim the most urgent row that the statement finds and nobody else is about to claim, if any."""
    owner, until = new_owner(), now + timedelta(seconds=lease_s)
    session.flush()
    # Not by the session, which would look for objects to change in its memory: half of the time of a claim.
    row_id = session.connection().scalar(statement, {"now": now, "owner": owner, "until": until})
    return None if row_id is None else Claim(work, row_id, owner)


def claim(session: Session, wanted: Claim, now: datetime, lease_s: float) -> bool:
    """Take a due row for `lease_s` and count the attempt; False when it is not due or taken."""
    row = wanted.work.row
    statement = _update(wanted.work).where(row.id == wanted.row_id, *claimable(wanted.work, now))
    values = _leased(wanted.work, wanted.owner, now, now + timedelta(seconds=lease_s))
    return _changed(session, wanted.work, statement.values(values))


def _leased(work: Work, owner: str | BindParameter[str], now: Moment, until: Moment) -> dict[str, Any]:
    values: dict[str, Any] = {
        "state": work.running,
        "attempts": work.row.attempts + 1,
        "lease_owner": owner,
        "lease_until": until,
    }
    return values | {"started_at": now} if work.row is Analysis else values


def renew(session: Session, held: Claim, now: datetime, lease_s: float) -> bool:
    """Lengthen the lease; False when the row was taken back meanwhile."""
    return note(session, held, {"lease_until": now + timedelta(seconds=lease_s)})


def note(session: Session, held: Claim, values: dict[str, Any]) -> bool:
    """Write what is settled while the work goes on; False when the row was taken back meanwhile."""
    return _changed(session, held.work, _own(held).values(values))


def give_back(session: Session, held: Claim, now: datetime, values: dict[str, Any] | None = None) -> bool:
    """Return a row that was not finished as if this claim had never been; `values` are what it achieved."""
    row = held.work.row
    waiting = {"state": held.work.waiting[0], "attempts": row.attempts - 1, "due_at": now, "woken_at": None}
    return finish(session, held, (values or {}) | waiting)


def finish(session: Session, held: Claim, values: dict[str, Any]) -> bool:
    """Write the result, `state` and `finished_at` included, and end the lease; False if it was taken back."""
    return _changed(session, held.work, _own(held).values(_UNLEASED | values))


def fail(session: Session, held: Claim, values: dict[str, Any], retry: Retry, now: datetime) -> str:
    """Let the row wait for its next attempt, or end it when there is none left.

    Args:
        session: Within the caller's transaction.
        held: The claim under which the attempt failed.
        values: What is written about the failure, for example `reason`.
        retry: How often it is tried again, and after how long.
        now: The time of the failure.

    Returns:
        The new state; empty when the row was taken back meanwhile.
    """
    row = held.work.row
    attempts = session.scalar(select(row.attempts).where(row.id == held.row_id)) or 1
    state = _next_state(held.work, attempts, retry.max_attempts, held.work.retry)
    # The extra claim only reports, so it need not wait.
    wait = retry.wait(attempts) if attempts < retry.max_attempts else timedelta()
    changes = values | {"state": state, "due_at": now + wait, "woken_at": None}
    if state == held.work.exhausted:
        changes["finished_at"] = now
    return state if finish(session, held, changes) else ""


def take_back(session: Session, work: Work, now: datetime, max_attempts: int) -> list[int]:
    """Return the rows whose worker fell silent to the waiting state, or end them; the attempt was spent."""
    row = work.row
    silent = select(row.id, row.attempts, row.lease_owner).where(
        row.state == work.running, row.lease_until < now
    )
    taken = []
    for row_id, attempts, owner in session.execute(silent).all():
        state = _next_state(work, attempts, max_attempts, work.waiting[0])
        values: dict[str, Any] = {"state": state, "due_at": now, "woken_at": None} | _UNLEASED
        values["reason"] = f"The worker {owner} fell silent during attempt {attempts}."
        if state == work.exhausted:
            values["finished_at"] = now
        statement = _update(work).where(row.id == row_id, row.lease_owner == owner, row.lease_until < now)
        if _changed(session, work, statement.values(values)):
            taken.append(row_id)
    return taken


def release_all(session: Session, work: Work, now: datetime) -> int:
    """Return every running row as if its claim had never been: a restored database has no workers."""
    row = work.row
    waiting = {"state": work.waiting[0], "attempts": row.attempts - 1, "due_at": now, "woken_at": None}
    statement = _update(work).where(row.state == work.running).values(waiting | _UNLEASED)
    return len(session.scalars(statement.returning(row.id)).all())


_UNLEASED: Final[dict[str, Any]] = {"lease_owner": "", "lease_until": None}


def _own(held: Claim) -> Update:
    row = held.work.row
    own = (row.id == held.row_id, row.state == held.work.running, row.lease_owner == held.owner)
    return _update(held.work).where(*own)


def claimable(work: Work, now: Moment) -> tuple[ColumnElement[bool], ...]:
    """Return what must hold of a row that may be claimed now."""
    return work.row.state.in_(work.waiting), work.row.due_at <= now


def _next_state(work: Work, attempts: int, max_attempts: int, again: str) -> str:
    return again if attempts < max_attempts + work.extra_claims else work.exhausted


def _update(work: Work) -> Update:
    return update(work.row).execution_options(synchronize_session=False)


def _changed(session: Session, work: Work, statement: Update) -> bool:
    return session.scalar(statement.returning(work.row.id)) is not None
