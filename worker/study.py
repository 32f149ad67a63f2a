"""What an analysis reads: one revision of a study, from its rows and its files."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.corrections import corrected_attributes
from db.models import Analysis, Disposition, Instance, LabelValue, Output, Study
from lungnode.store import StoredFile
from worker.result import Reading, Verdict

Reference = tuple[str, str, str]  # series, SOP class and SOP Instance UID

_VERDICTS: Final = {
    LabelValue.POSITIVE: Verdict.POSITIVE,
    LabelValue.NEGATIVE: Verdict.NEGATIVE,
    LabelValue.UNCERTAIN: Verdict.UNDETERMINED,
}


@dataclass(frozen=True)
class Revision:
    """One revision of a study, as its rows say."""

    analysis_id: int
    study_instance_uid: str
    revision: int
    rule: str
    completeness: str
    created_at: datetime
    attempts: int
    reason: str  # of the last failure
    files: tuple[StoredFile, ...]  # below the archive
    predecessors: dict[str, tuple[Reference, ...]]  # the report of the revision before, by output group
    corrected: dict[str, str]  # attributes that outputs say instead of the files, by keyword
    withdrawn: str  # why its results would not count any more; empty: they do
    reading: Reading | None  # of the last corrected report, this revision's or an earlier one's


def read_revision(session: Session, analysis_id: int) -> Revision:
    """Read what there is to analyse: conflicting instances and our own results are left out."""
    row = session.get_one(Analysis, analysis_id)
    study = session.get_one(Study, row.study_id)
    chosen = select(Instance.path, Instance.size, Instance.digest).where(
        Instance.study_id == row.study_id,
        Instance.revision <= row.revision,
        Instance.disposition == Disposition.ARCHIVED,
    )
    return Revision(
        analysis_id=analysis_id,
        study_instance_uid=study.study_instance_uid,
        revision=row.revision,
        rule=study.rule,
        completeness=row.completeness,
        created_at=row.created_at,
        attempts=row.attempts,
        reason=row.reason,
        files=tuple(StoredFile(*row) for row in session.execute(chosen.order_by(Instance.id))),
        predecessors=_predecessors(session, row),
        corrected=corrected_attributes(session, row.study_id, row.revision),
        withdrawn=row.withdrawn,
        reading=_reading(session, row),
    )


def _reading(session: Session, row: Analysis) -> Reading | None:
    """Return what a reader said last of the study; nothing of what was withdrawn."""
    said = (
        select(Analysis.revision, Analysis.reading)
        .where(Analysis.study_id == row.study_id, Analysis.revision <= row.revision)
        .where(Analysis.withdrawn == "")
        .order_by(Analysis.revision.desc())
    )
    found = ((revision, reading) for revision, reading in session.execute(said) if reading)
    return next((_read(revision, reading) for revision, reading in found), None)


def _read(revision: int, told: dict[str, str]) -> Reading:
    verdict = _VERDICTS[LabelValue(told["value"])]
    return Reading(told["reader"], verdict, told["remark"], revision)


def _predecessors(session: Session, row: Analysis) -> dict[str, tuple[Reference, ...]]:
    """Return the latest earlier report in each of its classes: a PACS holds one of them."""
    reports = (
        select(Analysis.revision, Output)
        .join(Output, Output.analysis_id == Analysis.id)
        .where(Analysis.study_id == row.study_id, Analysis.revision < row.revision)
        .where(Output.group.startswith("sr"))
        .order_by(Analysis.revision)
    )
    found = session.execute(reports).all()
    return {
        output.group: ((output.series_instance_uid, output.sop_class_uid, output.sop_instance_uid),)
        for _, output in found
    }
