"""What operators change about studies; the caller owns the transaction."""

from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import audit, intake
from db.analyses import queue_analysis
from db.models import UNFINISHED_ANALYSES, Analysis, Disposition, Study, StudyState
from db.queries import refuse_deleted
from lungnode.errors import UnusableError

HOLD_LENGTH: Final = 255
_DOCUMENT: Final = "KO"  # modality of rejection notes


def reanalyse(session: Session, study: Study, priority: int, now: datetime) -> Analysis:
    """Queue a new revision of the same instances, so that its report has a predecessor.

    Raises:
        UnusableError: The study is not complete, its files are deleted, or its last revision is not analysed
            yet.
    """
    uid = study.study_instance_uid
    intake.serialise(session)  # retention may be about to delete its files
    session.refresh(study)
    if study.state == StudyState.WITHDRAWN:
        raise UnusableError(f"All slices of study {uid} are withdrawn; nothing is left to analyse.")
    if study.state != StudyState.COMPLETE or study.revision == 0:
        raise UnusableError(f"Study {uid} is not complete yet; it will be analysed when it is.")
    refuse_deleted(session, study)
    unfinished = (Analysis.study_id == study.id, Analysis.state.in_(UNFINISHED_ANALYSES))
    revision = session.scalar(select(Analysis.revision).where(*unfinished))
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


def restore_study(study: Study, revision: int) -> None:
    """Close a study that was found in the archive: it was complete once, and is not analysed again."""
    images = {each.disposition for each in study.instances if each.modality != _DOCUMENT}
    study.state = StudyState.WITHDRAWN if images == {Disposition.WITHDRAWN} else StudyState.COMPLETE
    study.revision = max(study.revision, revision)
    study.completeness = study.completeness or "restored from files"
    for instance in study.instances:
        instance.revision = instance.revision or study.revision
