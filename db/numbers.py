"""The numbers of a node, for Prometheus and for alerts; the caller owns the transaction.

Each is counted from an index.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import (
    UNFINISHED_ANALYSES,
    Analysis,
    AnalysisState,
    Delivery,
    DeliveryState,
    Instance,
    Label,
    LabelValue,
    Quarantined,
    Study,
    StudyState,
    Upload,
)

_WAITING = (AnalysisState.QUEUED, AnalysisState.FAILED)
# What somebody still has to do something about: few rows, however many studies there were.
_OPEN: Final = frozenset(
    {
        StudyState.RECEIVING,
        *(*UNFINISHED_ANALYSES, AnalysisState.QUARANTINED),
        *(DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.REFUSED, DeliveryState.DEAD),
    }
)


@dataclass(frozen=True)
class Numbers:
    """How many there are, and how long the oldest has been waiting."""

    studies: dict[str, int]  # by state
    analyses: dict[str, int]  # by state
    deliveries: dict[tuple[str, str], int]  # by destination and state
    uploads: dict[str, int]  # by state
    quarantined_files: int
    instances: int  # ever received
    oldest_analysis_s: float  # how long it has been due; 0 when none waits
    oldest_delivery_s: float


def read_numbers(session: Session, now: datetime, *, only_open: bool = False) -> Numbers:
    """Count; with `only_open` what is settled is left out, which takes no time at all."""
    states = _OPEN if only_open else None
    return Numbers(
        studies=_by(session, Study.state, states),
        analyses=_by(session, Analysis.state, states),
        deliveries=_by_destination(session, states),
        uploads=_by(session, Upload.state),
        quarantined_files=session.scalar(select(func.count(Quarantined.id))) or 0,
        instances=session.scalar(select(func.max(Instance.id))) or 0,
        oldest_analysis_s=_age(session, Analysis, _WAITING, now),
        oldest_delivery_s=_age(session, Delivery, (DeliveryState.PENDING,), now),
    )


def _by(session: Session, column: Any, states: Collection[str] | None = None) -> dict[str, int]:
    query: Any = select(column, func.count()).group_by(column)
    counted = session.execute(query if states is None else query.where(column.in_(states)))
    return {str(value): int(count) for value, count in counted}


def _by_destination(session: Session, states: Collection[str] | None) -> dict[tuple[str, str], int]:
    key = (Delivery.destination, Delivery.state)
    counted: Any = select(*key, func.count()).group_by(*key)
    if states is not None:
        counted = counted.where(Delivery.state.in_(states))
    return {(destination, state): count for destination, state, count in session.execute(counted)}


def _age(
    session: Session, table: type[Analysis] | type[Delivery], waiting: Sequence[str], now: datetime
) -> float:
    due_at = session.scalar(select(func.min(table.due_at)).where(table.state.in_(waiting)))
    return max(0.0, (now - due_at).total_seconds()) if due_at else 0.0


def finished_analyses(session: Session, since: datetime) -> Sequence[Any]:
    """Return state, verdict, model, probability, phases of the analyses that ended from a moment on."""
    columns = (Analysis.state, Analysis.verdict, Analysis.model, Analysis.probability, Analysis.phases)
    query: Any = select(Analysis.id, Analysis.finished_at, *columns).where(Analysis.finished_at >= since)
    return session.execute(query.order_by(Analysis.finished_at)).all()


def finished_deliveries(session: Session, since: datetime) -> Sequence[Any]:
    """Return the deliveries that ended from a moment on, and when their studies were complete."""
    columns = (Delivery.destination, Delivery.state, Analysis.created_at)
    query: Any = (
        select(Delivery.id, Delivery.finished_at, *columns)
        .join(Analysis, Analysis.id == Delivery.analysis_id)
        .where(Delivery.finished_at >= since)
    )
    return session.execute(query.order_by(Delivery.finished_at)).all()


def ended_by_hour(session: Session, now: datetime, hours: int = 24) -> list[int]:
    """Count the analyses that ended in each of the last hours, the oldest hour first."""
    ends = [now - timedelta(hours=hours - step) for step in range(hours + 1)]
    column = Analysis.finished_at
    counts = [func.count().filter(column > begin, column <= end) for begin, end in pairwise(ends)]
    row = session.execute(select(*counts).where(column > ends[0], column <= now)).one()
    return [int(count) for count in row]


def last_contacts(session: Session, since: datetime) -> dict[str, datetime]:
    """Return when each destination stored something last, from a moment on."""
    # An expression has no index: SQLite would read all that was ever stored by the one of states.
    arrived = Delivery.state.concat("").in_((DeliveryState.STORED, DeliveryState.COMMITTED))
    last: Any = select(Delivery.destination, func.max(Delivery.finished_at)).where(
        Delivery.finished_at >= since, arrived
    )
    rows: Sequence[Any] = session.execute(last.group_by(Delivery.destination)).all()
    return {row[0]: row[1] for row in rows}


def agreement(session: Session) -> dict[tuple[str, str, str], int]:
    """Count labelled studies by model, label and verdict of their last analysis."""
    key = (Study.last_model, Label.value, Study.last_verdict)
    certain = Label.value.in_((LabelValue.POSITIVE, LabelValue.NEGATIVE))
    counted = select(*key, func.count()).join(Study, Study.id == Label.study_id).where(certain).group_by(*key)
    return {(model, value, verdict): count for model, value, verdict, count in session.execute(counted)}
