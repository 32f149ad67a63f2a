"""The chain of the audit trail: a batch's head covers its events and the head before it.

A row that is changed, removed or put into a batch no longer fits its digest there; a batch that is changed or
removed no longer fits the one behind it. Who rewrites all of it changes the last head, which was sent to the
syslog server. What is not chained yet (seconds, while a clerk runs) is not protected.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from db.models import AuditBatch, AuditEvent
from db.session import transaction
from lungnode.audit.message import Source, encode, from_json

BEGINNING: Final = "0" * 64  # what stands before the first batch
MOST: Final = 500  # events a batch
_PIECE: Final = 50  # batches that are verified in one transaction
_LOCK: Final = 6_118_245_337  # clerks chain one after the other; SQLite does so by itself


def chain(session: Session, source: Source, now: datetime, most: int = MOST) -> AuditBatch | None:
    """Encode and chain events that are in no batch yet, at most `most`; None when there are none.

    Args:
        session: In a transaction of the caller's; several clerks may call this at once.
        source: The node that reports, and how much of patients it tells: no more is kept.
        now: The time of the batch.
        most: The largest batch.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    waiting = select(AuditEvent).where(AuditEvent.batch_id.is_(None)).order_by(AuditEvent.id).limit(most)
    rows = list(session.scalars(waiting))
    if not rows:
        return None
    for row in rows:
        if row.draft is not None:
            row.message, row.draft = encode(from_json(row.draft), source), None
    previous = session.scalar(select(AuditBatch.head).order_by(AuditBatch.id.desc()).limit(1)) or BEGINNING
    digests = [[row.id, digest_of(row)] for row in rows]
    batch = AuditBatch(
        created_at=now, due_at=now, previous=previous, events=digests, head=_head(previous, now, digests)
    )
    session.add(batch)
    session.flush()
    for row in rows:
        row.batch_id = batch.id
    return batch


def digest_of(row: AuditEvent) -> str:
    """Return the SHA-256 of all that an event says."""
    said = [row.at.astimezone(UTC).isoformat(), row.actor, row.action, row.subject, row.outcome]
    return _sha256([row.id, *said, row.details, row.message])


def _head(previous: str, at: datetime, digests: Sequence[Sequence[object]]) -> str:
    return _sha256([previous, at.astimezone(UTC).isoformat(), digests])


def _sha256(value: object) -> str:
    # Sorted and without spaces: the same bytes whatever the database made of the JSON.
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass
class Verdict:
    """What `verify` found."""

    batches: int = 0
    events: int = 0
    unchained: int = 0
    head: str = BEGINNING
    is_head_known: bool | None = None  # the head that was asked for; None: none was
    problems: list[str] = field(default_factory=list)


def verify(engine: Engine, head: str = "") -> Verdict:
    """Compute every batch again, and look for `head`, which was noted elsewhere, among all heads.

    It reads in pieces, so that the node goes on meanwhile.
    """
    verdict, last_id = Verdict(is_head_known=(head == BEGINNING) if head else None), 0
    while True:
        with transaction(engine) as session:
            query = select(AuditBatch).where(AuditBatch.id > last_id).order_by(AuditBatch.id).limit(_PIECE)
            batches = list(session.scalars(query))
            for batch in batches:
                verdict.problems += _faults(session, batch, verdict.head)
                verdict.batches += 1
                verdict.events += len(batch.events)
                verdict.head = batch.head
                verdict.is_head_known = batch.head == head or verdict.is_head_known
        if not batches:
            break
        last_id = batches[-1].id
    with transaction(engine) as session:
        verdict.unchained = _waiting(session)
    if verdict.is_head_known is False:
        verdict.problems.append(f"No batch has the head {head}: the trail was cut or written anew.")
    return verdict


def state(session: Session) -> tuple[AuditBatch | None, int]:
    """Return the last batch, and how many events wait for the next one."""
    last = select(AuditBatch).order_by(AuditBatch.id.desc()).limit(1)
    return session.scalar(last), _waiting(session)


def _waiting(session: Session) -> int:
    return session.scalar(select(func.count()).where(AuditEvent.batch_id.is_(None))) or 0


def _faults(session: Session, batch: AuditBatch, previous: str) -> Iterator[str]:
    if batch.previous != previous:
        yield f"Batch {batch.id} does not follow the one before it: a batch was removed or changed."
    if batch.head != _head(batch.previous, batch.created_at, batch.events):
        yield f"Batch {batch.id} was changed."
    rows = session.scalars(select(AuditEvent).where(AuditEvent.batch_id == batch.id))
    there = {row.id: digest_of(row) for row in rows}
    chained = {int(row_id): str(digest) for row_id, digest in batch.events}
    for row_id in sorted(there.keys() | chained.keys()):
        if row_id not in there:
            yield f"Event {row_id} of batch {batch.id} was removed."
        elif row_id not in chained:
            yield f"Event {row_id} was put into batch {batch.id}."
        elif there[row_id] != chained[row_id]:
            yield f"Event {row_id} of batch {batch.id} was changed."
