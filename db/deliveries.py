"""What an operator asks of deliveries: what is on its way, and another try for what has ended badly."""

from collections.abc import Collection
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from db.models import Analysis, Delivery, DeliveryState

ENDED_BADLY: Final = (DeliveryState.REFUSED, DeliveryState.DEAD)


def list_deliveries(session: Session, states: Collection[str] = (), limit: int = 100) -> list[Delivery]:
    """Return the newest deliveries with analysis and study, of all states unless some are named."""
    with_study = joinedload(Delivery.analysis).joinedload(Analysis.study)
    query = select(Delivery).options(with_study).order_by(Delivery.id.desc()).limit(limit)
    if states:
        query = query.where(Delivery.state.in_(states))
    return list(session.scalars(query))


def retry(session: Session, ids: Collection[int] | None, now: datetime) -> list[int]:
    """Make refused and dead deliveries due again, those named or all; return which ones.

    What the peer stored is not sent again.
    """
    query = select(Delivery).where(Delivery.state.in_(ENDED_BADLY)).order_by(Delivery.id).with_for_update()
    if ids is not None:
        query = query.where(Delivery.id.in_(ids))
    rows = list(session.scalars(query))
    for row in rows:
        row.state, row.attempts, row.due_at, row.woken_at = DeliveryState.PENDING, 0, now, None
        row.finished_at = None
        row.instances = [record for record in row.instances if _was_stored(record["status"])]
    return [row.id for row in rows]


def _was_stored(status: str) -> bool:
    return status == "0x0000" or status.startswith("0xB")
