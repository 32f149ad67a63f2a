"""One of several programs leads: a row with a lease, as any other work; the caller owns the transaction."""

from datetime import datetime, timedelta

from sqlalchemy import or_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from db.models import Leadership


def lead(session: Session, duty: str, owner: str, now: datetime, lease_s: float) -> bool:
    """Take or keep a duty for `lease_s`; False while another has it. One statement is the proof."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    until = now + timedelta(seconds=lease_s)
    statement = dialect.insert(Leadership).values(duty=duty, owner=owner, lease_until=until)
    is_free = or_(Leadership.owner == owner, Leadership.lease_until < now)
    taken = statement.on_conflict_do_update(
        index_elements=["duty"], set_={"owner": owner, "lease_until": until}, where=is_free
    )
    return session.scalar(taken.returning(Leadership.duty)) is not None


def resign(session: Session, duty: str, owner: str, now: datetime) -> None:
    """Give a duty up, if it is this owner's: the next one need not wait for the end of the lease."""
    own = (Leadership.duty == duty, Leadership.owner == owner)
    session.execute(update(Leadership).where(*own).values(lease_until=now - timedelta(seconds=1)))
