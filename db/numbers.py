"""The numbers of a node, for Prometheus and for alerts; the caller owns the transaction.

Each is counted from an index.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import (
    Analysis,
    AnalysisState,
    Delivery,
    DeliveryState,
    Instance,
    Label,
    LabelValue,
    Quarantined,
    Study,
    Upload,
)

_WAITING = (AnalysisState.QUEUED, AnalysisState.FAILED)


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


def read_numbers(session: Session, now: datetime) -> Numbers:
    """Count."""
    return Numbers(
        studies=_by(session, Study.state),
        analyses=_by(session, Analysis.state),
        deliveries=_by_destination(session),
        uploads=_by(session, Upload.state),
        quarantined_files=session.scalar(select(func.count(Quarantined.id))) or 0,
        instances=session.scalar(select(func.max(Instance.id))) or 0,
        oldest_analysis_s=_age(session, Analysis, _WAITING, now),
        oldest_delivery_s=_age(session, Delivery, (DeliveryState.PENDING,), now),
    )


def _by(session: Session, column: Any) -> dict[str, int]:
    counted = session.execute(select(column, func.count()).group_by(column))
    return {str(value): int(count) for value, count in counted}


def _by_destination(session: Session) -> dict[tuple[str, str], int]:
    key = (Delivery.destination, Delivery.state)
    counted = select(*key, func.count()).group_by(*key)
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


def agreement(session: Session) -> dict[tuple[str, str, str], int]:
    """Count labelled studies by model, label and verdict of their last analysis."""
    key = (Study.last_model, Label.value, Study.last_verdict)
    certain = Label.value.in_((LabelValue.POSITIVE, LabelValue.NEGATIVE))
    counted = select(*key, func.count()).join(Study, Study.id == Label.study_id).where(certain).group_by(*key)
    return {(model, value, verdict): count for model, value, verdict, count in session.execute(counted)}
