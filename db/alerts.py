"""Alerts as rows, so that several web processes tell of each once; the caller owns the transaction."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import and_, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from db.models import Alert

Told = tuple[str, str, str]  # name, subject, sentence


def note_alerts(session: Session, wrong: Collection[Told], now: datetime) -> None:
    """Begin those that are new, and end those that are not wrong any more."""
    is_open = Alert.ended_at.is_(None)
    for name, subject, sentence in wrong:
        dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
        row = {"name": name, "subject": subject[:255], "sentence": sentence, "began_at": now}
        session.execute(dialect.insert(Alert).values(**row).on_conflict_do_nothing())
    still = {(name, subject[:255]) for name, subject, _ in wrong}
    for alert in session.scalars(select(Alert).where(is_open)):
        if (alert.name, alert.subject) not in still:
            alert.ended_at = now


def untold(session: Session) -> Sequence[Alert]:
    """Return, and lock, what operators have not been told of: beginnings, and ends of what they were told."""
    began = and_(Alert.told_at.is_(None), Alert.ended_at.is_(None))
    ended = and_(Alert.ended_at.is_not(None), Alert.told_at.is_not(None), Alert.end_told_at.is_(None))
    query = select(Alert).where(or_(began, ended))
    return session.scalars(query.order_by(Alert.id).with_for_update(skip_locked=True)).all()


def open_alerts(session: Session) -> Sequence[Alert]:
    """Return what is wrong now, the newest first."""
    return session.scalars(select(Alert).where(Alert.ended_at.is_(None)).order_by(Alert.id.desc())).all()
