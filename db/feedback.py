"""What readers say of results, and the labels that become of it; the caller owns the transaction.

Nothing that was sent changes: a label is for the next training. A corrected report is asked for by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import audit, intake
from db.changes import reanalyse
from db.label_policy import Opinion
from db.labels import set_label
from db.models import Agreement, Analysis, Feedback, LabelSource, LabelValue, Study
from lungnode.errors import UnusableError

CORRECTION_PRIORITY: Final = 1  # somebody waits for it; 0 is the first
_TOLD = {"positive": LabelValue.POSITIVE, "negative": LabelValue.NEGATIVE}


@dataclass(frozen=True)
class Said:
    """What a reader says."""

    reader: str
    agreement: Agreement
    value: LabelValue | None = None  # what the study shows instead; needed to disagree
    remark: str = ""


def give_feedback(session: Session, study: Study, said: Said, now: datetime) -> Feedback:
    """Keep what a reader says of a study's last result; what the same reader said before is replaced.

    Raises:
        UnusableError: There is no verdict to agree with, or what is said contradicts itself.
    """
    analysis = session.get(Analysis, study.last_analysis_id) if study.last_analysis_id else None
    if analysis is None or not analysis.verdict:
        raise UnusableError(f"Study {study.study_instance_uid} has no result yet.")
    value = _label(said, analysis.verdict)
    row = session.scalar(
        select(Feedback)
        .where(Feedback.study_id == study.id, Feedback.reader == said.reader)
        .with_for_update()
    )
    if row is None:
        row = Feedback(study_id=study.id, reader=said.reader, created_at=now, labelled_on=f"{now:%Y-%m-%d}")
        session.add(row)
    row.analysis_id, row.agreement, row.value = analysis.id, said.agreement, value
    row.remark, row.changed_at = said.remark, now
    set_label(session, study, Opinion(value, LabelSource.READER, said.reader, row.labelled_on, None), now)
    session.flush()
    return row


def _label(said: Said, verdict: str) -> LabelValue:
    told = _TOLD.get(verdict)
    if said.agreement is Agreement.UNCERTAIN:
        if said.value not in (None, LabelValue.UNCERTAIN):
            raise UnusableError("Who is uncertain names no other label.")
        return LabelValue.UNCERTAIN
    if said.agreement is Agreement.AGREE:
        if said.value not in (None, told) or (told is None and said.value is None):
            raise UnusableError(f"The verdict is {verdict}: to agree means that label, or none other.")
        return told or LabelValue.UNCERTAIN
    if said.value is None or said.value == told:
        raise UnusableError(f"The verdict is {verdict}: to disagree, name what the study shows instead.")
    return said.value


def correct_report(session: Session, study: Study, reader: str, now: datetime) -> Analysis:
    """Queue a revision whose report states what a reader said of the last one, and names it as predecessor.

    Raises:
        UnusableError: No slice was analysed, the reader has not said of the last result that it is otherwise,
            or the study cannot be analysed again.
    """
    uid = study.study_instance_uid
    intake.serialise(session)
    session.refresh(study)
    last = session.get(Analysis, study.last_analysis_id) if study.last_analysis_id else None
    if last is None or last.probability is None:
        raise UnusableError(f"Study {uid} has no finding that a report could correct.")
    said = session.scalar(select(Feedback).where(Feedback.study_id == study.id, Feedback.reader == reader))
    if said is None or said.analysis_id != last.id or said.agreement == Agreement.AGREE:
        raise UnusableError(
            f"{reader} has not said that the last result of study {uid} is otherwise; "
            "a report is corrected by who disagrees with it or is uncertain."
        )
    analysis = reanalyse(session, study, CORRECTION_PRIORITY, now)
    analysis.reading = {"reader": reader, "value": said.value, "remark": said.remark}
    # The remark may name the patient.
    told = {"revision": analysis.revision, "value": said.value}
    audit.record(session, "report corrected", uid, now, **told)
    return analysis


def list_feedback(session: Session, study: Study) -> Sequence[Feedback]:
    """Return what readers said of a study, the newest first."""
    query = select(Feedback).where(Feedback.study_id == study.id).order_by(Feedback.changed_at.desc())
    return session.scalars(query).all()
