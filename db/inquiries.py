"""Questions to the sources of studies, and what is compared with their answers.

The caller owns the transaction. Claims, leases and retries are those of all work: `db.work`, INQUIRIES.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage
from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from db.models import (
    Analysis,
    Disposition,
    Inquiry,
    InquiryKind,
    InquiryState,
    Instance,
    Output,
    Study,
    StudyState,
)

CT_CLASSES: Final = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)


@dataclass(frozen=True)
class HeldInstance:
    """An instance of a study that we have, ours or not."""

    series_instance_uid: str
    sop_instance_uid: str
    is_ct: bool
    is_withdrawn: bool = False  # its source may have it no longer


@dataclass(frozen=True)
class Question:
    """What is asked now."""

    kind: InquiryKind
    peer: str
    newest: int  # instances.id of the study's newest one
    due_at: datetime


def current_inquiries(session: Session) -> dict[tuple[int, str], Inquiry]:
    """Return the questions about the revisions that are being received, by study (id) and kind."""
    query = select(Inquiry).join(Study, Study.id == Inquiry.study_id).where(*_current())
    return {(row.study_id, row.kind): row for row in session.scalars(query)}


def ask(session: Session, study: Study, row: Inquiry | None, question: Question, now: datetime) -> Inquiry:
    """Make a question due, and return it: a new one, or `row` again; a count forgets its attempts.

    One that is being asked is left alone: it is due again when its answer has come and is too old.
    """
    if row is None:
        row = Inquiry(study_id=study.id, revision=study.revision + 1, kind=question.kind, attempts=0)
        session.add(row)
    elif row.state == InquiryState.ASKING:
        return row
    row.peer, row.newest, row.due_at, row.asked_at = question.peer, question.newest, question.due_at, now
    row.state, row.finished_at, row.reason = InquiryState.PENDING, None, ""
    if question.kind is InquiryKind.COUNT:
        row.attempts, row.present, row.expected = 0, None, None
    return row


def close(session: Session, study: Study, now: datetime) -> None:
    """End what nobody has asked yet about a study that is judged complete now."""
    values = {
        "state": InquiryState.UNANSWERED,
        "finished_at": now,
        "reason": "The study was judged complete before.",
    }
    session.execute(
        update(Inquiry)
        .where(Inquiry.study_id == study.id)
        .where(Inquiry.state == InquiryState.PENDING)
        .values(values)
        .execution_options(synchronize_session=False)
    )


def due_inquiries(session: Session, now: datetime, limit: int = 200) -> Sequence[Inquiry]:
    """Return the questions that are due about studies that are being received, the oldest first."""
    query = (
        select(Inquiry)
        .join(Study, Study.id == Inquiry.study_id)
        .where(*_current(), Inquiry.state == InquiryState.PENDING, Inquiry.due_at <= now)
        .order_by(Inquiry.due_at, Inquiry.id)
        .limit(limit)
    )
    return session.scalars(query).all()


def list_inquiries(session: Session, study: Study) -> Sequence[Inquiry]:
    """Return what was asked about a study, in the order of its revisions."""
    query = select(Inquiry).where(Inquiry.study_id == study.id).order_by(Inquiry.revision, Inquiry.id)
    return session.scalars(query).all()


def newest_instance(session: Session, study_id: int) -> int:
    """Return the highest identifier of a study's instances."""
    return session.scalar(select(func.max(Instance.id)).where(Instance.study_id == study_id)) or 0


def held_instances(session: Session, study_id: int) -> list[HeldInstance]:
    """Return what we have of a study, without our own results."""
    query = select(
        Instance.series_instance_uid,
        Instance.sop_instance_uid,
        Instance.sop_class_uid.in_(CT_CLASSES),
        Instance.disposition == Disposition.WITHDRAWN,
    ).where(Instance.study_id == study_id, Instance.disposition != Disposition.OWN_OUTPUT)
    return [HeldInstance(*row) for row in session.execute(query)]


def own_instance_uids(session: Session, study_id: int) -> Collection[str]:
    """Return the SOP Instance UIDs of all results that we composed for a study."""
    analyses = select(Analysis.id).where(Analysis.study_id == study_id)
    return set(session.scalars(select(Output.sop_instance_uid).where(Output.analysis_id.in_(analyses))))


def _current() -> tuple[ColumnElement[bool], ...]:
    return Study.state == StudyState.RECEIVING, Inquiry.revision == Study.revision + 1
