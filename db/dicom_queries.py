"""Studies asked for as DICOM asks: by attribute, with wildcards and ranges; the caller owns the transaction.

Source: PS3.4 C.2.2.2, Attribute Matching.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from db.models import Instance, Study
from db.text_keys import search_key

_BYTEWISE: Final = ("patient_key", "patient_id")  # compared so by the database, too


@dataclass(frozen=True)
class Matching:
    """What is asked of a study; empty: anything."""

    study_instance_uids: tuple[str, ...] = ()
    patient_name: str = ""
    patient_id: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    accession_number: str = ""
    study_date: str = ""  # or a range with a hyphen
    study_description: str = ""
    modality: str = ""  # of one of its series


@dataclass(frozen=True)
class MatchedStudy:
    """A study, and what is counted of it."""

    study: Study
    modalities: tuple[str, ...]
    series: int
    instances: int
    first_path: str  # of its first instance, below the archive; empty when no file is left


def match_studies(session: Session, wanted: Matching, limit: int, offset: int) -> list[MatchedStudy]:
    """Return studies, the one that changed last first."""
    order = (Study.changed_at.desc(), Study.id.desc())
    query = select(Study).where(*_conditions(wanted)).order_by(*order).limit(limit).offset(offset)
    studies = session.scalars(query).all()
    counts = _counts(session, [study.id for study in studies])
    return [MatchedStudy(study, *counts.get(study.id, ((), 0, 0, ""))) for study in studies]


def _counts(session: Session, ids: Sequence[int]) -> dict[int, tuple[tuple[str, ...], int, int, str]]:
    counted: Any = (
        select(
            Instance.study_id,
            Instance.modality,
            func.count(Instance.series_instance_uid.distinct()),
            func.count(),
            func.min(Instance.path),
        )
        .where(Instance.study_id.in_(ids), Instance.deleted_at.is_(None))
        .group_by(Instance.study_id, Instance.modality)
        .order_by(Instance.modality)
    )
    found: dict[int, tuple[tuple[str, ...], int, int, str]] = {}
    for study_id, modality, series, instances, path in session.execute(counted):
        before = found.get(study_id, ((), 0, 0, ""))
        modalities = (*before[0], modality) if modality else before[0]
        found[study_id] = (modalities, before[1] + series, before[2] + instances, before[3] or path)
    return found


def _conditions(wanted: Matching) -> list[ColumnElement[bool]]:
    texts = {
        Study.patient_id: wanted.patient_id,
        Study.patient_birth_date: wanted.patient_birth_date,
        Study.patient_sex: wanted.patient_sex,
        Study.accession_number: wanted.accession_number,
        Study.study_description: wanted.study_description,
    }
    found = [matches(column, value) for column, value in texts.items() if value]
    if wanted.study_instance_uids:
        found.append(Study.study_instance_uid.in_(wanted.study_instance_uids))
    if wanted.patient_name:
        # Names may be matched without case and accents. Source: PS3.4 C.2.2.2.1.
        found.append(matches(Study.patient_key, search_key(wanted.patient_name)))
    if wanted.study_date:
        found += _dates(wanted.study_date)
    if wanted.modality:
        found.append(Study.instances.any(matches(Instance.modality, wanted.modality)))
    return found


def matches(column: InstrumentedAttribute[str], value: str) -> ColumnElement[bool]:
    """Match a text: * stands for any characters, ? for one."""
    if not set(value) & set("*?"):
        return column == value
    escaped = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    pattern = escaped.replace("*", "%").replace("?", "_")
    if column.key in _BYTEWISE and value.endswith("*") and not set(value[:-1]) & set("*?"):
        # The range says nothing new; it is what an index serves.
        return column.between(value[:-1], value[:-1] + chr(0x10FFFF)) & column.like(pattern, escape="\\")
    return column.like(pattern, escape="\\")


def _dates(text: str) -> list[ColumnElement[bool]]:
    first, hyphen, last = text.partition("-")
    if not hyphen:
        return [Study.study_date == first]
    found: list[ColumnElement[bool]] = [Study.study_date >= first] if first else []
    return [*found, Study.study_date <= last] if last else found
