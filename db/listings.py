"""Lists of results, deliveries, labels, audit events, the newest first; the caller owns the transaction."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, func, select
from sqlalchemy.orm import Session, defer, joinedload

from db.audit_trail import Wanted
from db.models import Analysis, AuditEvent, Delivery, Label, Study
from db.paging import Found, Page, behind, cut, newest
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
    key, query = _results(wanted)
    found = cut(session.execute(behind(query, key, key, page)).all(), page)
    return Found(_read_results(session, [row[0] for row in found.rows]), found.next)


def count_results(session: Session, wanted: ResultFilter) -> int:
    """Return how many results are asked for."""
    key, query = _results(wanted)
    return session.scalar(query.with_only_columns(func.count(key), maintain_column_froms=True)) or 0


def every_result(engine: Engine, wanted: ResultFilter) -> Iterator[Sequence[Analysis]]:
    """Yield all results in pieces, the oldest first; each piece is read by a short transaction of its own."""
    last_id = 0
    key, query = _results(wanted)
    while True:
        with reading(engine) as session:
            ids = list(session.scalars(query.where(key > last_id).order_by(key).limit(_PIECE)))
            rows = _read_results(session, ids)[::-1]
        if not rows:
            return
        yield rows
        last_id = rows[-1].id


def _results(wanted: ResultFilter) -> tuple[Any, Any]:
    """Return the number of a result, and what selects the numbers (twice, for pages) of those asked for.

    The last result of each study is found from the studies alone, in the order of its number.
    """
    if wanted.every_revision:
        key: Any = Analysis.id
        query: Any = select(key, key).join(Study, Study.id == Analysis.study_id)
    else:
        key = Study.last_analysis_id
        query = select(key, key).where(key.is_not(None))
        if wanted.since or wanted.until:
            query = query.join(Analysis, Analysis.id == key)
    query = query.where(*conditions(wanted.search))
    if wanted.since:
        query = query.where(Analysis.finished_at >= wanted.since)
    return key, query.where(Analysis.finished_at < wanted.until) if wanted.until else query


def _read_results(session: Session, ids: Sequence[int]) -> Sequence[Analysis]:
    """Read results with their studies, the newest first."""
    query = select(Analysis).options(joinedload(Analysis.study), defer(Analysis.details))
    return session.scalars(query.where(Analysis.id.in_(ids)).order_by(Analysis.id.desc())).all()


@dataclass(frozen=True)
class DeliveryFilter:
    """Which deliveries are asked for; empty: any."""

    states: Collection[str] = ()
    destination: str = ""
    study_instance_uid: str = ""


def page_of_deliveries(session: Session, wanted: DeliveryFilter, page: Page) -> Found[Delivery]:
    """Return a page of deliveries with analysis and study."""
    query: Any = select(Delivery.id, Delivery.id)
    if wanted.states:
        query = query.where(Delivery.state.in_(wanted.states))
    if wanted.destination:
        query = query.where(Delivery.destination == wanted.destination)
    if wanted.study_instance_uid:
        query = query.where(Delivery.analysis_id.in_(_analyses_of(wanted.study_instance_uid)))
    # Only numbers are sorted; the rows of the page are read afterwards.
    keys: Sequence[Any] = session.execute(behind(query, Delivery.id, Delivery.id, page)).all()
    found = cut(keys, page)
    whole = joinedload(Delivery.analysis)
    rows = select(Delivery).options(whole.joinedload(Analysis.study), whole.defer(Analysis.details))
    ids = [row[0] for row in found.rows]
    read = session.scalars(rows.where(Delivery.id.in_(ids)).order_by(Delivery.id.desc())).all()
    return Found(read, found.next)


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
