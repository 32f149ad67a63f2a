"""Slowing down who guesses passwords: by account and by address, in the database, for all web processes.

The caller owns the transaction. A failure is written before the password is looked at, so that guesses made
at once count each other.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from sqlalchemy import ColumnElement, delete, func, select, text
from sqlalchemy.orm import Session

from db.models import SignInFailure

WINDOW: Final = timedelta(minutes=15)
OF_BOTH: Final = 5  # failures of one account from one address
OF_ACCOUNT: Final = 25  # from anywhere: more, or anybody could keep somebody else out
OF_ADDRESS: Final = 50  # of any account: a hospital may have one address
_LOCK: Final = 6_120_447_803  # tries are counted one after the other


@dataclass(frozen=True)
class Attempt:
    """One try to sign in."""

    id: int
    allowed: bool


def begin_attempt(session: Session, name: str, address: str, now: datetime) -> Attempt:
    """Count a try; it is not allowed when there were too many failures lately."""
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer at a time as it is
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    session.execute(delete(SignInFailure).where(SignInFailure.at <= now - WINDOW))
    row = SignInFailure(account=_hidden(name), address=address[:64], at=now)
    by_account, by_address = SignInFailure.account == row.account, SignInFailure.address == row.address
    allowed = (
        _count(session, by_account, by_address) < OF_BOTH
        and _count(session, by_account) < OF_ACCOUNT
        and _count(session, by_address) < OF_ADDRESS
    )
    if not allowed:
        return Attempt(0, allowed=False)  # not counted: who waits gets in, however often somebody tries
    session.add(row)
    session.flush()
    return Attempt(row.id, allowed=True)


def forgive(session: Session, attempt: Attempt) -> None:
    """Take a try back: the password was right. Earlier failures of the account stay counted elsewhere."""
    row = session.get(SignInFailure, attempt.id)
    if row is not None:
        same = (SignInFailure.account == row.account, SignInFailure.address == row.address)
        session.execute(delete(SignInFailure).where(*same))


def _count(session: Session, *conditions: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count(SignInFailure.id)).where(*conditions)) or 0


def _hidden(name: str) -> str:
    # A password is often typed into the field of the name.
    return sha256(name.strip().lower().encode()).hexdigest()
