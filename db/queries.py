"""What people and programs ask of the database; the caller owns the transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session, selectinload

from db.models import Analysis, Delivery, Disposition, Instance, Quarantined, Study
from lungnode.errors import UnusableError


@dataclass(frozen=True)
class StudyFilter:
    """Which studies are asked for; empty: any."""

    study_instance_uid: str = ""
    patient_id: str = ""
    accession_number: str = ""
    study_date: str = ""  # YYYYMMDD, or a range with a hyphen that may lack an end, as in DICOM queries
    calling_ae_title: str = ""
    state: str = ""
    verdict: str = ""  # of the last analysis
    limit: int = 100


@dataclass(frozen=True)
class StudySummary:
    """One line of a list of studies."""

    study: Study
    series: int
    instances: int
    analysis: Analysis | None  # the last one


@dataclass(frozen=True)
class SeriesSummary:
    """One series of a study."""

    series_instance_uid: str
    modality: str
    disposition: str
    instances: int
    frames: int
    size: int  # bytes


def list_studies(session: Session, wanted: StudyFilter) -> list[StudySummary]:
    """Return the studies asked for, the one that changed last first."""
    last = (
        select(func.max(Analysis.id)).where(Analysis.study_id == Study.id).correlate(Study).scalar_subquery()
    )
    query: Any = (
        select(Study, _count(Instance.series_instance_uid.distinct()), _count(Instance.id), Analysis)
        .outerjoin(Analysis, and_(Analysis.study_id == Study.id, Analysis.id == last))
        .where(*_conditions(wanted))
        .order_by(Study.changed_at.desc(), Study.id.desc())
        .limit(wanted.limit)
    )
    return [StudySummary(*row) for row in session.execute(query)]


def get_study(session: Session, study_instance_uid: str) -> Study:
    """Return a study with its analyses, their outputs and deliveries.

    Raises:
        UnusableError: There is no such study.
    """
    loaded = selectinload(Study.analyses)
    delivered = loaded.selectinload(Analysis.deliveries).selectinload(Delivery.confirmation)
    query = (
        select(Study)
        .where(Study.study_instance_uid == study_instance_uid)
        .options(loaded.selectinload(Analysis.outputs), delivered)
    )
    study = session.scalar(query)
    if study is None:
        raise UnusableError(f"There is no study {study_instance_uid}.")
    return study


def list_series(session: Session, study: Study) -> list[SeriesSummary]:
    """Return what a study holds, by series; results that came back and conflicts apart."""
    key = (Instance.series_instance_uid, Instance.modality, Instance.disposition)
    query: Any = (
        select(*key, func.count(), func.sum(Instance.number_of_frames), func.sum(Instance.size))
        .where(Instance.study_id == study.id)
        .group_by(*key)
        .order_by(*key)
    )
    return [
        SeriesSummary(uid, modality, disposition, instances, int(frames), int(size))
        for uid, modality, disposition, instances, frames, size in session.execute(query)
    ]


def list_instances(session: Session, study: Study, revision: int | None = None) -> list[Instance]:
    """Return the instances that an analysis of a revision may use: no conflicts, no results of ours."""
    query = select(Instance).where(
        Instance.study_id == study.id, Instance.disposition == Disposition.ARCHIVED
    )
    if revision is not None:
        query = query.where(Instance.revision <= revision)
    return list(session.scalars(query.order_by(Instance.id)))


def refuse_deleted(session: Session, study: Study) -> None:
    """Make sure that every file of a study's images is there, as far as the rows know.

    Raises:
        UnusableError: Some were deleted.
    """
    gone = (Instance.study_id == study.id, Instance.deleted_at.is_not(None))
    query = select(Instance.id).where(*gone, Instance.disposition == Disposition.ARCHIVED)
    if session.scalar(query.limit(1)) is not None:
        raise UnusableError(
            f"Files of study {study.study_instance_uid} are deleted ({study.files_deleted_by}); "
            "have it sent again."
        )


def list_noted(session: Session, study: Study) -> list[Instance]:
    """Return the instances of a study with a note: conflicts, and those that came again."""
    query = select(Instance).where(Instance.study_id == study.id, Instance.note != "")
    return list(session.scalars(query.order_by(Instance.id)))


def list_quarantined(session: Session, limit: int = 100) -> Sequence[Quarantined]:
    """Return the files that could not be indexed, the last one first."""
    query = select(Quarantined).order_by(Quarantined.received_at.desc(), Quarantined.id.desc()).limit(limit)
    return session.scalars(query).all()


def _count(expression: Any) -> Any:
    counted = select(func.count(expression)).where(Instance.study_id == Study.id)
    return counted.correlate(Study).scalar_subquery()


def _conditions(wanted: StudyFilter) -> list[ColumnElement[bool]]:
    equal = (
        (Study.study_instance_uid, wanted.study_instance_uid),
        (Study.patient_id, wanted.patient_id),
        (Study.accession_number, wanted.accession_number),
        (Study.calling_ae_title, wanted.calling_ae_title),
        (Study.state, wanted.state),
        (Analysis.verdict, wanted.verdict),
    )
    conditions: list[ColumnElement[bool]] = [column == value for column, value in equal if value]
    first, hyphen, last = wanted.study_date.partition("-")
    if first:
        conditions.append(Study.study_date >= first)
    if last or (first and not hyphen):
        conditions.append(Study.study_date.between("0", last or first))
    return conditions
