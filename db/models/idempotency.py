"""Answers to writes that may be repeated."""

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base


class IdempotentWrite(Base):
    """A write with an Idempotency-Key, and what was answered; kept for a day."""

    __tablename__ = "idempotent_writes"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request: Mapped[str] = mapped_column(String(64))  # SHA-256 of method, path and body
    status: Mapped[int | None]  # empty while it is at work
    media_type: Mapped[str] = mapped_column(String(255), default="")
    location: Mapped[str] = mapped_column(String(1024), default="")
    body: Mapped[bytes] = mapped_column(LargeBinary, default=b"")
    created_at: Mapped[datetime] = mapped_column(index=True)
