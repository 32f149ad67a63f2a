"""Accounts and what keeps them signed in; the caller owns the transaction.

Secrets are drawn with 256 bits, so their SHA-256 is enough to keep; passwords are chosen by people, and kept
as the caller hashed them.
"""

import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session, joinedload

from db.models import Account, ApiToken, Role, WebSession
from lungnode.errors import UnusableError

SEEN: Final = timedelta(minutes=1)  # how exactly is noted when a session or a token was last used
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")


def digest_of(secret: str) -> str:
    """Return what is kept of a secret that was drawn at random."""
    return sha256(secret.encode()).hexdigest()


def account_name(text: str) -> str:
    """Return the name of an account as it is kept.

    Raises:
        UnusableError: It has other characters than letters, digits and . _ @ -, or more than 64.
    """
    name = text.strip().lower()
    if not _NAME.fullmatch(name):
        raise UnusableError(
            "The name of an account is made of at most 64 letters a to z, digits and . _ @ -, "
            "and starts with a letter or a digit."
        )
    return name


def add_account(session: Session, name: str, role: Role, password: str, now: datetime) -> Account:
    """Add an account; `password` is a hash, or empty where none is accepted.

    Raises:
        UnusableError: The name is taken or unusable.
    """
    known = account_name(name)
    if session.scalar(select(Account.id).where(Account.name == known)) is not None:
        raise UnusableError(f"There is an account {known} already.")
    account = Account(name=known, role=role, password=password, created_at=now)
    session.add(account)
    session.flush()
    return account


def find_account(session: Session, name: str) -> Account:
    """Return the account of a name.

    Raises:
        UnusableError: There is none.
    """
    account = session.scalar(select(Account).where(Account.name == name.strip().lower()))
    if account is None:
        raise UnusableError(f"There is no account {name}.")
    return account


def list_accounts(session: Session) -> Sequence[Account]:
    """Return all accounts by name."""
    return session.scalars(select(Account).order_by(Account.name)).all()


def set_password(session: Session, account: Account, password: str) -> None:
    """Keep another password's hash; whoever is signed in with the one before is not any more."""
    account.password = password
    sign_out_everywhere(session, account)


def set_role(session: Session, account: Account, role: Role) -> None:
    """Give an account another role; what it holds already has that one from its next request on.

    Raises:
        UnusableError: It is the last administrator.
    """
    if role != Role.ADMIN:
        _refuse_last_admin(session, account)
    account.role = role


def disable(session: Session, account: Account, now: datetime) -> None:
    """Let an account do nothing any more: its sessions end, its tokens are not accepted.

    Raises:
        UnusableError: It is the last administrator.
    """
    _refuse_last_admin(session, account)
    account.disabled_at = account.disabled_at or now
    sign_out_everywhere(session, account)


def enable(account: Account) -> None:
    """Let a disabled account sign in again."""
    account.disabled_at = None


def _refuse_last_admin(session: Session, account: Account) -> None:
    others = select(Account.id).where(
        Account.role == Role.ADMIN, Account.disabled_at.is_(None), Account.id != account.id
    )
    if account.role == Role.ADMIN and session.scalar(others.limit(1)) is None:
        raise UnusableError(f"{account.name} is the last administrator; make another one first.")


@dataclass(frozen=True)
class Lifetime:
    """How long a session lasts."""

    whole: timedelta
    idle: timedelta


def start_session(session: Session, account: Account, address: str, now: datetime) -> tuple[str, WebSession]:
    """Sign a browser in; return the secret for its cookie, which is not kept, and the row."""
    secret = secrets.token_urlsafe(32)
    row = WebSession(
        digest=digest_of(secret),
        account_id=account.id,
        csrf_token=secrets.token_urlsafe(32),
        address=address,
        created_at=now,
        seen_at=now,
    )
    session.add(row)
    session.flush()
    return secret, row


def find_session(session: Session, secret: str, lifetime: Lifetime, now: datetime) -> WebSession | None:
    """Return the session of a cookie with its account; None when it has ended."""
    query = select(WebSession).options(joinedload(WebSession.account)).join(WebSession.account)
    return session.scalar(
        query.where(
            WebSession.digest == digest_of(secret),
            WebSession.created_at > now - lifetime.whole,
            WebSession.seen_at > now - lifetime.idle,
            Account.disabled_at.is_(None),
        )
    )


def note_session(session: Session, digest: str, now: datetime) -> None:
    """Note that a session was used."""
    session.execute(update(WebSession).where(WebSession.digest == digest).values(seen_at=now))


def sign_out(session: Session, digest: str) -> None:
    """End one session."""
    session.execute(delete(WebSession).where(WebSession.digest == digest))


def sign_out_everywhere(session: Session, account: Account) -> None:
    """End all sessions of an account."""
    session.execute(delete(WebSession).where(WebSession.account_id == account.id))


def sweep_sessions(session: Session, lifetime: Lifetime, now: datetime) -> None:
    """Delete the sessions that have ended by themselves."""
    ended = or_(WebSession.created_at <= now - lifetime.whole, WebSession.seen_at <= now - lifetime.idle)
    session.execute(delete(WebSession).where(ended))


@dataclass(frozen=True)
class Grant:
    """What a token is for."""

    name: str
    scopes: Collection[str]
    expires_at: datetime


def add_token(session: Session, account: Account, grant: Grant, now: datetime) -> tuple[str, ApiToken]:
    """Make a token; return its secret, which is not kept, and the row."""
    secret = f"lungnode_{secrets.token_urlsafe(32)}"
    row = ApiToken(
        account_id=account.id,
        name=grant.name[:64],
        digest=digest_of(secret),
        scopes=sorted(grant.scopes),
        created_at=now,
        expires_at=grant.expires_at,
    )
    session.add(row)
    session.flush()
    return secret, row


def find_token(session: Session, secret: str, now: datetime) -> ApiToken | None:
    """Return the token of a secret with its account; None when it holds no more."""
    query = select(ApiToken).options(joinedload(ApiToken.account)).join(ApiToken.account)
    return session.scalar(
        query.where(
            ApiToken.digest == digest_of(secret),
            ApiToken.expires_at > now,
            ApiToken.revoked_at.is_(None),
            Account.disabled_at.is_(None),
        )
    )


def note_token(session: Session, token_id: int, now: datetime) -> None:
    """Note that a token was used."""
    session.execute(update(ApiToken).where(ApiToken.id == token_id).values(used_at=now))


def list_tokens(session: Session, account: Account | None = None) -> Sequence[ApiToken]:
    """Return the tokens of an account, or of all, the newest first."""
    query = select(ApiToken).options(joinedload(ApiToken.account)).order_by(ApiToken.id.desc())
    if account is not None:
        query = query.where(ApiToken.account_id == account.id)
    return session.scalars(query).all()


def revoke_token(session: Session, token_id: int, now: datetime) -> ApiToken:
    """Let a token hold no more; one that was revoked stays so.

    Raises:
        UnusableError: There is none of that number.
    """
    token = session.get(ApiToken, token_id)
    if token is None:
        raise UnusableError(f"There is no token {token_id}.")
    token.revoked_at = token.revoked_at or now
    return token
