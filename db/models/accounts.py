"""Who may sign in, and what keeps them signed in."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.models.base import Base


class Role(StrEnum):
    """What an account may do; each may do what the one before may."""

    VIEWER = "viewer"
    READER = "reader"
    ADMIN = "admin"


class Account(Base):
    """A person, or a program, that may sign in."""

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)  # lower case
    role: Mapped[str] = mapped_column(String(16))
    password: Mapped[str] = mapped_column(Text, default="")  # Argon2; empty: none is accepted
    subject: Mapped[str | None] = mapped_column(String(512), unique=True)  # issuer and subject of OIDC
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]


class WebSession(Base):
    """A browser that is signed in."""

    __tablename__ = "web_sessions"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)  # SHA-256 of the cookie
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    csrf_token: Mapped[str] = mapped_column(String(64))
    address: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]  # within a minute

    account: Mapped[Account] = relationship()


class ApiToken(Base):
    """What a program shows instead of a password."""

    __tablename__ = "api_tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64), unique=True)  # SHA-256 of the token
    scopes: Mapped[list[Any]]  # permissions, of those that the account's role has
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]  # within a minute
    revoked_at: Mapped[datetime | None]

    account: Mapped[Account] = relationship()


class SignInFailure(Base):
    """A password that was not accepted; kept for a quarter of an hour, to slow down who guesses."""

    __tablename__ = "sign_in_failures"
    __table_args__ = (Index("ix_sign_in_failures_account", "account", "at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(String(64))  # SHA-256 of what was typed: it may be a password
    address: Mapped[str] = mapped_column(String(64), index=True)
    at: Mapped[datetime] = mapped_column(index=True)


class OidcFlow(Base):
    """A browser that was sent to the OIDC provider and is not back yet."""

    __tablename__ = "oidc_flows"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)  # SHA-256 of the state
    nonce: Mapped[str] = mapped_column(String(64))
    verifier: Mapped[str] = mapped_column(String(128))  # of PKCE
    target: Mapped[str] = mapped_column(Text)  # the page that was asked for
    created_at: Mapped[datetime]
