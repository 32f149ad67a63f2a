"""What operators change about studies; the caller owns the transaction."""

from datetime import datetime
from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from db import audit, intake
from db.intake import open_study_uids, queue_analysis
from db.models import (
    Analysis,
    AnalysisState,
    AssociationStudy,
    CommitmentStudy,
    Delivery,
    DeliveryState,
    Feedback,
    Inquiry,
    Instance,
    Label,
    Output,
    ShadowResult,
    Study,
    StudyState,
    TestSetMember,
)
from db.queries import refuse_deleted
from db.test_sets import sets_that_hold
from lungnode.errors import UnusableError

HOLD_LENGTH: Final = 255


def reanalyse(session: Session, study: Study, priority: int, now: datetime) -> Analysis:
    """Queue a new revision of the same instances, so that its report has a predecessor.

    Raises:
        UnusableError: The study is not complete, its files are deleted, or its last revision is not analysed
            yet.
    """
    uid = study.study_instance_uid
    intake.serialise(session)  # retention may be about to delete its files
    session.refresh(study)
    if study.state != StudyState.COMPLETE or study.revision == 0:
        raise UnusableError(f"Study {uid} is not complete yet; it will be analysed when it is.")
    refuse_deleted(session, study)
    waiting = (AnalysisState.QUEUED, AnalysisState.RUNNING, AnalysisState.FAILED)
    query = select(Analysis.revision).where(Analysis.study_id == study.id, Analysis.state.in_(waiting))
    revision = session.scalar(query)
    if revision is not None:
        raise UnusableError(f"The analysis of study {uid}, revision {revision}, is not finished.")
    study.revision += 1
    return queue_analysis(session, study, priority, now)


def set_hold(session: Session, study: Study, reason: str, now: datetime) -> None:
    """Keep a study's files for a reason, or no longer when that is empty.

    Raises:
        UnusableError: The reason is too long, or the files are deleted already.
    """
    uid = study.study_instance_uid
    if len(reason) > HOLD_LENGTH:
        raise UnusableError(f"A reason has at most {HOLD_LENGTH} characters, got {len(reason)}.")
    intake.serialise(session)  # retention may be about to delete its files
    session.refresh(study)
    if reason and study.files_deleted_at is not None:
        raise UnusableError(f"The files of study {uid} are deleted ({study.files_deleted_by}).")
    study.hold = reason  # in words that may name a patient, so the audit trail has none of them
    if reason:
        audit.record(session, "study held", uid, now)
    else:
        audit.record(session, "study released", uid, now)


def delete_study(session: Session, study: Study, now: datetime, *, force: bool = False) -> None:
    """Delete every row of a study, its labels too; its files are the caller's.

    Args:
        session: In a transaction of the caller's.
        study: What to delete.
        now: The time of the audit event.
        force: Delete it from frozen test sets as well: nothing can be measured with them any more.

    Raises:
        UnusableError: The study is on hold, being received, analysed or delivered, or in a frozen test set.
    """
    uid = study.study_instance_uid
    frozen_in = sets_that_hold(session, study)
    if frozen_in and not force:
        raise UnusableError(
            f"Study {uid} is in the frozen test set {', '.join(frozen_in)}, which is worthless without it; "
            "--force deletes it all the same."
        )
    if study.hold:
        raise UnusableError(f"Study {uid} is on hold ({study.hold}); release it first.")
    _refuse_while_at_work(session, study, now)
    labels = session.scalar(select(func.count()).where(Label.study_id == study.id))
    # What the labels said is not kept: whoever deletes a study may have to forget it.
    audit.record(session, "study deleted", uid, now, labels=labels, test_sets=frozen_in)
    _delete_rows(session, study)


def _refuse_while_at_work(session: Session, study: Study, now: datetime) -> None:
    uid = study.study_instance_uid
    if uid in open_study_uids(session, now):
        raise UnusableError(f"Study {uid} is being received; wait until its association has ended.")
    analyses = select(Analysis.id).where(Analysis.study_id == study.id)
    busy = session.scalar(analyses.where(Analysis.state == AnalysisState.RUNNING).limit(1))
    sending = select(Delivery.id).where(
        Delivery.analysis_id.in_(analyses), Delivery.state == DeliveryState.SENDING
    )
    if busy is not None or session.scalar(sending.limit(1)) is not None:
        raise UnusableError(f"Study {uid} is being analysed or delivered; try again when that is over.")


def _delete_rows(session: Session, study: Study) -> None:
    analyses = select(Analysis.id).where(Analysis.study_id == study.id)
    for statement in (
        delete(ShadowResult).where(ShadowResult.analysis_id.in_(analyses)),
        delete(Feedback).where(Feedback.study_id == study.id),
        delete(Delivery).where(Delivery.analysis_id.in_(analyses)),
        delete(Output).where(Output.analysis_id.in_(analyses)),
        delete(Analysis).where(Analysis.study_id == study.id),
        delete(Inquiry).where(Inquiry.study_id == study.id),
        delete(Instance).where(Instance.study_id == study.id),
        delete(AssociationStudy).where(AssociationStudy.study_instance_uid == study.study_instance_uid),
        delete(CommitmentStudy).where(CommitmentStudy.study_instance_uid == study.study_instance_uid),
        delete(Label).where(Label.study_id == study.id),
        delete(TestSetMember).where(TestSetMember.study_id == study.id),
        delete(Study).where(Study.id == study.id),
    ):
        session.execute(statement.execution_options(synchronize_session=False))


def restore_study(study: Study, revision: int) -> None:
    """Close a study that was found in the archive: it was complete once, and is not analysed again."""
    study.state = StudyState.COMPLETE
    study.revision = max(study.revision, revision)
    study.completeness = study.completeness or "restored from files"
    for instance in study.instances:
        instance.revision = instance.revision or study.revision
