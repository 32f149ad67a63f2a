"""Lists of results, deliveries, labels, audit events, the newest first; the caller owns the transaction."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, func, select
from sqlalchemy.orm import Session, contains_eager, defer, joinedload

from db.audit_trail import Wanted
from db.models import Analysis, AuditEvent, Delivery, Label, Study
from db.paging import Found, Page, newest
from db.search import Search, conditions
from db.session import reading

_PIECE: Final = 2000


@dataclass(frozen=True)
class ResultFilter:
    """Which results are asked for; empty: any."""

    search: Search = field(default_factory=Search)  # of their studies
    every_revision: bool = False  # else the last one of each study
    since: datetime | None = None  # when they were finished
    until: datetime | None = None


def list_results(session: Session, wanted: ResultFilter, page: Page) -> Found[Analysis]:
    """Return a page of results with their studies."""
    return newest(session, _results(wanted).options(defer(Analysis.details)), Analysis.id, page)


def count_results(session: Session, wanted: ResultFilter) -> int:
    """Return how many results are asked for."""
    counted = _results(wanted).with_only_columns(func.count(Analysis.id), maintain_column_froms=True)
    return session.scalar(counted) or 0


def every_result(engine: Engine, wanted: ResultFilter) -> Iterator[list[Analysis]]:
    """Yield all results in pieces, the oldest first; each piece is read by a short transaction of its own."""
    last_id = 0
    while True:
        query = _results(wanted).options(defer(Analysis.details)).where(Analysis.id > last_id)
        with reading(engine) as session:
            rows = list(session.scalars(query.order_by(Analysis.id).limit(_PIECE)))
        if not rows:
            return
        yield rows
        last_id = rows[-1].id


def _results(wanted: ResultFilter) -> Any:
    query = (
        select(Analysis)
        .join(Study, Study.id == Analysis.study_id)
        .options(contains_eager(Analysis.study))
        .where(*conditions(wanted.search))
    )
    if not wanted.every_revision:
        query = query.where(Study.last_analysis_id == Analysis.id)
    if wanted.since:
        query = query.where(Analysis.finished_at >= wanted.since)
    if wanted.until:
        query = query.where(Analysis.finished_at < wanted.until)
    return query


@dataclass(frozen=True)
class DeliveryFilter:
    """Which deliveries are asked for; empty: any."""

    states: Collection[str] = ()
    destination: str = ""
    study_instance_uid: str = ""


def page_of_deliveries(session: Session, wanted: DeliveryFilter, page: Page) -> Found[Delivery]:
    """Return a page of deliveries with analysis and study."""
    whole = joinedload(Delivery.analysis)
    query = select(Delivery).options(whole.joinedload(Analysis.study), whole.defer(Analysis.details))
    if wanted.states:
        query = query.where(Delivery.state.in_(wanted.states))
    if wanted.destination:
        query = query.where(Delivery.destination == wanted.destination)
    if wanted.study_instance_uid:
        query = query.where(Delivery.analysis_id.in_(_analyses_of(wanted.study_instance_uid)))
    return newest(session, query, Delivery.id, page)


def _analyses_of(study_instance_uid: str) -> Any:
    return (
        select(Analysis.id)
        .join(Study, Study.id == Analysis.study_id)
        .where(Study.study_instance_uid == study_instance_uid)
    )


def page_of_labels(session: Session, study_instance_uid: str, page: Page) -> Found[Label]:
    """Return a page of labels with their studies, of all studies unless one is named."""
    query = select(Label).options(joinedload(Label.study))
    if study_instance_uid:
        named: ColumnElement[bool] = Study.study_instance_uid == study_instance_uid
        query = query.where(Label.study_id.in_(select(Study.id).where(named)))
    return newest(session, query, Label.id, page)


def page_of_events(session: Session, wanted: Wanted, page: Page) -> Found[AuditEvent]:
    """Return a page of audit events."""
    return newest(session, select(AuditEvent).where(*wanted.conditions()), AuditEvent.id, page)
