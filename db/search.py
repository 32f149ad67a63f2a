"""Searching studies among very many; the caller owns the transaction.

Each filter and each order has an index, and a page is read from one of them; `benchmarks.results` measures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from db.models import Analysis, Instance, Study
from db.paging import LIMIT, Found, Page, behind, cut, encode
from db.text_keys import search_key


@dataclass(frozen=True)
class Search:
    """Which studies are asked for; empty: any."""

    study_instance_uid: str = ""
    patient: str = ""  # how name or Patient ID begin; with * or ?, a pattern for the whole of either
    accession_number: str = ""
    first_date: str = ""  # Study Date, YYYYMMDD
    last_date: str = ""
    state: str = ""
    last_state: str = ""  # of the last analysis
    verdict: str = ""  # of the last analysis
    completeness: str = ""  # the note's first word: complete, quiet, incomplete
    source: str = ""  # calling AE title
    model: str = ""  # of the last analysis


class Order(StrEnum):
    """What a list is sorted by."""

    CHANGED = "changed"
    STUDY_DATE = "study_date"
    PATIENT = "patient"
    PROBABILITY = "probability"  # lists only studies that have one


@dataclass(frozen=True)
class StudyRow:
    """One line of a list of studies."""

    study: Study
    analysis: Analysis | None  # the last one, without its details
    series: int
    instances: int


_KEYS: Final[dict[Order, InstrumentedAttribute[Any]]] = {
    Order.CHANGED: Study.changed_at,
    Order.STUDY_DATE: Study.study_date,
    Order.PATIENT: Study.patient_key,
    Order.PROBABILITY: Study.last_probability,
}


def search_studies(
    session: Session, wanted: Search, page: Page, order: Order = Order.CHANGED
) -> Found[StudyRow]:
    """Return a page of the studies asked for.

    Raises:
        UnusableError: The page's place is not one that was given out.
    """
    key = _KEYS[order]
    # Only keys are sorted; the rows of the page are read afterwards.
    keys: Sequence[Any] = session.execute(behind(_ordered(wanted, order), key, Study.id, page)).all()
    found = cut(keys, page)
    return Found(_with_rest(session, [row[1] for row in found.rows]), found.next)


@dataclass(frozen=True)
class Step:
    """Which page of a list: the first one, the one behind a place, or the one in front of a place."""

    after: str = ""
    before: str = ""
    limit: int = LIMIT
    descending: bool = True


@dataclass(frozen=True)
class Browsed:
    """A page, and the places of its neighbours; empty where there is none."""

    rows: Sequence[StudyRow]
    before: str
    after: str


def browse_studies(session: Session, wanted: Search, step: Step, order: Order = Order.CHANGED) -> Browsed:
    """Return a page for somebody who may go on and back.

    Raises:
        UnusableError: The place is not one that was given out.
    """
    back = bool(step.before)
    page = Page(step.before or step.after, step.limit, step.descending is not back)
    found = search_studies(session, wanted, page, order)
    if not back:
        before = _place(found.rows[0], order) if step.after and found.rows else ""
        return Browsed(found.rows, before, found.next)
    if not found.next:  # nothing is in front of it: the first page, and a whole one
        return browse_studies(session, wanted, replace(step, before="", after=""), order)
    rows = list(reversed(found.rows))
    return Browsed(rows, _place(rows[0], order), _place(rows[-1], order))


def _place(row: StudyRow, order: Order) -> str:
    return encode((getattr(row.study, _KEYS[order].key), row.study.id))


def count_studies(session: Session, wanted: Search, most: int | None = None) -> int:
    """Return how many studies are asked for; `most` + 1 where there are more than `most`.

    A bound keeps it from growing with the archive.
    """
    patient = conditions(Search(patient=wanted.patient))
    # By itself, or SQLite reads every study of a verdict to see whose it is.
    of_patient = [Study.id.in_(select(Study.id).where(*patient).correlate(None))] if patient else []
    found = select(Study.id).where(*conditions(replace(wanted, patient="")), *of_patient)
    if most is not None:
        found = found.limit(most + 1)
    return session.scalar(select(func.count()).select_from(found.subquery())) or 0


def values_of(session: Session, column: InstrumentedAttribute[str]) -> list[str]:
    """Return the different values of an indexed column: what there is to choose from.

    Each is looked up behind the one before: a look a value, not a row.
    """
    return list(_each_value(session, column))


def _each_value(session: Session, column: InstrumentedAttribute[str]) -> Iterator[str]:
    value: str | None = ""
    while (value := session.scalar(select(func.min(column)).where(column > value))) is not None:
        yield value


def _ordered(wanted: Search, order: Order) -> Select[Any]:
    query = select(_KEYS[order], Study.id).where(*conditions(wanted))
    return query.where(Study.last_probability.is_not(None)) if order is Order.PROBABILITY else query


def _with_rest(session: Session, ids: list[int]) -> list[StudyRow]:
    """Read a page's studies, and their analyses and counts."""
    studies = {study.id: study for study in session.scalars(select(Study).where(Study.id.in_(ids)))}
    analyses = _analyses(session, [study.last_analysis_id for study in studies.values()])
    counted = (
        select(
            Instance.study_id,
            func.count(Instance.series_instance_uid.distinct()),
            func.count(Instance.series_instance_uid),
        )
        .where(Instance.study_id.in_(ids))
        .group_by(Instance.study_id)
    )
    counts = {study_id: (series, instances) for study_id, series, instances in session.execute(counted)}
    return [
        StudyRow(studies[each], analyses.get(studies[each].last_analysis_id), *counts.get(each, (0, 0)))
        for each in ids
    ]


def _analyses(session: Session, ids: list[int | None]) -> dict[int | None, Analysis]:
    query = select(Analysis).where(Analysis.id.in_([each for each in ids if each is not None]))
    return {analysis.id: analysis for analysis in session.scalars(query)}


def conditions(wanted: Search) -> list[ColumnElement[bool]]:
    """Return what a search asks of a study."""
    equal = (
        (Study.study_instance_uid, wanted.study_instance_uid),
        (Study.accession_number, wanted.accession_number),
        (Study.state, wanted.state),
        (Study.last_state, wanted.last_state),
        (Study.last_verdict, wanted.verdict),
        (Study.calling_ae_title, wanted.source),
        (Study.last_model, wanted.model),
        (Study.completeness_kind, wanted.completeness),
    )
    found: list[ColumnElement[bool]] = [column == value for column, value in equal if value]
    if wanted.first_date:
        found.append(Study.study_date >= wanted.first_date)
    if wanted.last_date:
        found += [Study.study_date <= wanted.last_date, Study.study_date != ""]
    if wanted.patient.strip():
        found.append(_patient(wanted.patient.strip()))
    return found


def _patient(text: str) -> ColumnElement[bool]:
    if set(text) & set("*?"):
        return or_(_like(Study.patient_key, search_key(text)), _like(Study.patient_id, text))
    key = search_key(text)
    by_id = _begins(Study.patient_id, text)
    return or_(_begins(Study.patient_key, key), by_id) if key else by_id


def _begins(column: InstrumentedAttribute[str], start: str) -> ColumnElement[bool]:
    # A range, which an index serves on both databases, for these columns are compared byte by byte.
    return column.between(start, start + chr(0x10FFFF))


def _like(column: InstrumentedAttribute[str], pattern: str) -> ColumnElement[bool]:
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return column.like(escaped.replace("*", "%").replace("?", "_"), escape="\\")
