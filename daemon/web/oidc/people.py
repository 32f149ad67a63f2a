"""From what a provider says of a person to an account here."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import accounts
from db.models import Account, Role
from lungnode.errors import UnusableError
from lungnode.settings import OidcSettings

_RANKS: Final = (Role.ADMIN, Role.READER, Role.VIEWER)


def role_of(claims: dict[str, Any], settings: OidcSettings) -> Role | None:
    """Return the highest role that a person's groups give; None when none lets them in."""
    values = claims.get(settings.role_claim)
    named = {settings.roles.get(value) for value in _texts(values)}
    found = next((role for role in _RANKS if role in named), None)
    return found or (Role(settings.default_role) if settings.default_role else None)


def _texts(values: Any) -> Iterable[str]:
    if isinstance(values, str):
        return values.split()
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []


def account_of(
    session: Session, claims: dict[str, Any], issuer: str, settings: OidcSettings, now: datetime
) -> Account:
    """Return the account of a person, made at the first sign-in; its role is the provider's, each time.

    Raises:
        UnusableError: The person has no role here, is disabled, or another account has the name.
    """
    role = role_of(claims, settings)
    if role is None:
        raise UnusableError("You have no role here; ask whoever looks after Lungnode.")
    subject = f"{issuer} {claims['sub']}"[:512]
    account = session.scalar(select(Account).where(Account.subject == subject))
    if account is None:
        account = _new(session, str(claims.get(settings.account_claim) or ""), role, now)
        account.subject = subject
    if account.disabled_at is not None:
        raise UnusableError(f"The account {account.name} is disabled.")
    if account.role != role:
        accounts.set_role(session, account, role)
    session.flush()
    return account


def _new(session: Session, name: str, role: Role, now: datetime) -> Account:
    """Return an account for a name: a new one, or one that was made for it, without a password.

    One with a password is somebody else's: whoever names people at the provider must not become it.
    """
    known = session.scalar(select(Account).where(Account.name == name.strip().lower()))
    if known is None:
        return accounts.add_account(session, name, role, "", now)
    if known.password or known.subject:
        raise UnusableError(f"Another account is called {known.name}.")
    return known
