"""Commitment requests of peers: taken from the spool, verified, reported; the caller owns the transaction."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from db.intake import add_missing
from db.models import AssociationRecord, CommitmentRequest, CommitmentState, CommitmentStudy
from lungnode.commitment import Commitment, Reference

ENDED: Final = (CommitmentState.REPORTED, CommitmentState.REFUSED, CommitmentState.DEAD)
ENDED_BADLY: Final = (CommitmentState.REFUSED, CommitmentState.DEAD)
ASSOCIATION: Final = "association "  # and its identifier: who holds a report that an association takes along


@dataclass(frozen=True)
class Asked:
    """A request as it lies in the spool."""

    source: str  # association and number of its file: the same file again is no second request
    association_id: str
    calling_ae_title: str
    called_ae_title: str
    address: str
    commitment: Commitment


def add_request(session: Session, asked: Asked, now: datetime) -> None:
    """Take a request; the same one again, from another file, is verified and reported again."""
    digest = _digest(asked.commitment.references)
    row = session.scalar(
        select(CommitmentRequest).where(
            CommitmentRequest.calling_ae_title == asked.calling_ae_title,
            CommitmentRequest.transaction_uid == asked.commitment.transaction_uid,
            CommitmentRequest.digest == digest,
        )
    )
    if row is None:
        session.add(_new_row(asked, digest, now))
    elif row.source != asked.source and row.state != CommitmentState.REPORTING:
        row.source, row.association_id = asked.source, asked.association_id
        row.called_ae_title, row.address = asked.called_ae_title, asked.address
        if row.state in ENDED:
            _restart(row, now)


def is_duplicate(session: Session, row: CommitmentRequest) -> bool:
    """Whether the peer had used the Transaction UID for other instances before."""
    earlier = select(CommitmentRequest.id).where(
        CommitmentRequest.calling_ae_title == row.calling_ae_title,
        CommitmentRequest.transaction_uid == row.transaction_uid,
        CommitmentRequest.id < row.id,
    )
    return session.scalar(earlier.limit(1)) is not None


def to_verify(session: Session, host: str, now: datetime) -> list[int]:
    """Return the requests that a clerk of this host should verify, the oldest first.

    Where a peer waits on an open association only the clerk of that host can tell it.
    """
    waits_elsewhere = exists().where(
        AssociationRecord.id == CommitmentRequest.association_id,
        AssociationRecord.host != host,
        AssociationRecord.closed_at.is_(None),
        AssociationRecord.lease_until > now,
    )
    due = (CommitmentRequest.state == CommitmentState.REQUESTED, CommitmentRequest.due_at <= now)
    query = select(CommitmentRequest.id).where(*due, ~waits_elsewhere)
    return list(session.scalars(query.order_by(CommitmentRequest.id)))


def held_for_associations(session: Session, host: str) -> list[CommitmentRequest]:
    """Return the requests whose report is left to an association of this host."""
    is_elsewhere = exists().where(
        AssociationRecord.id == CommitmentRequest.association_id, AssociationRecord.host != host
    )
    query = select(CommitmentRequest).where(
        CommitmentRequest.state == CommitmentState.REPORTING,
        CommitmentRequest.lease_owner.startswith(ASSOCIATION),
        ~is_elsewhere,
    )
    return list(session.scalars(query))


def request_from(session: Session, source: str) -> CommitmentRequest | None:
    """Return the request that came in a spool file."""
    return session.scalar(select(CommitmentRequest).where(CommitmentRequest.source == source))


def may_still_be_spooled(session: Session, row: CommitmentRequest, now: datetime) -> bool:
    """Whether an association that began before the request, on any host, is not indexed yet."""
    query = select(AssociationRecord.id).where(
        AssociationRecord.closed_at.is_(None),
        AssociationRecord.lease_until > now,
        AssociationRecord.opened_at <= row.requested_at,
        AssociationRecord.id != row.association_id,
    )
    return session.scalar(query.limit(1)) is not None


def link_studies(session: Session, row: CommitmentRequest, study_instance_uids: Collection[str]) -> None:
    """Record which studies a request is about."""
    session.execute(delete(CommitmentStudy).where(CommitmentStudy.request_id == row.id))
    rows = [{"request_id": row.id, "study_instance_uid": uid} for uid in sorted(study_instance_uids)]
    add_missing(session, CommitmentStudy, rows)


def list_requests(
    session: Session, states: Collection[str] = (), limit: int = 100, study_instance_uid: str = ""
) -> list[CommitmentRequest]:
    """Return the newest requests, of all states and studies unless some are named."""
    query = select(CommitmentRequest).order_by(CommitmentRequest.id.desc()).limit(limit)
    if states:
        query = query.where(CommitmentRequest.state.in_(states))
    if study_instance_uid:
        about = select(CommitmentStudy.request_id).where(
            CommitmentStudy.study_instance_uid == study_instance_uid
        )
        query = query.where(CommitmentRequest.id.in_(about))
    return list(session.scalars(query))


def retry(session: Session, ids: Collection[int] | None, now: datetime) -> list[int]:
    """Verify and report refused and dead requests again, those named or all; return which ones."""
    query = select(CommitmentRequest).where(CommitmentRequest.state.in_(ENDED_BADLY))
    if ids is not None:
        query = query.where(CommitmentRequest.id.in_(ids))
    rows = list(session.scalars(query.order_by(CommitmentRequest.id).with_for_update()))
    for row in rows:
        _restart(row, now)
    return [row.id for row in rows]


def _restart(row: CommitmentRequest, now: datetime) -> None:
    row.state, row.attempts, row.due_at, row.woken_at = CommitmentState.REQUESTED, 0, now, None
    row.requested_at, row.verified_at, row.finished_at, row.reason = now, None, None, ""


def _new_row(asked: Asked, digest: str, now: datetime) -> CommitmentRequest:
    return CommitmentRequest(
        transaction_uid=asked.commitment.transaction_uid,
        digest=digest,
        source=asked.source,
        association_id=asked.association_id,
        calling_ae_title=asked.calling_ae_title,
        called_ae_title=asked.called_ae_title,
        address=asked.address,
        instances=[each.as_record() for each in asked.commitment.references],
        due_at=now,
        requested_at=now,
    )


def _digest(references: Iterable[Reference]) -> str:
    lines = sorted(f"{each.sop_class_uid} {each.sop_instance_uid}" for each in references)
    return sha256("\n".join(lines).encode("ascii")).hexdigest()
