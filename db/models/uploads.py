"""Files that somebody wants to have classified, beside all studies."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base


class UploadState(StrEnum):
    """queued -> running -> done | failed."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Upload(Base):
    """One upload: a temporary row with a folder of its own below the uploads."""

    __tablename__ = "uploads"
    __table_args__ = (Index("ix_uploads_due", "state", "due_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(32), unique=True)  # drawn at random; its folder's name
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    session: Mapped[str] = mapped_column(String(64), default="")  # with which it goes; empty: a token's
    name: Mapped[str] = mapped_column(String(255))  # of the first file, as it was given
    files: Mapped[int]
    size: Mapped[int] = mapped_column(BigInteger)  # bytes
    state: Mapped[str] = mapped_column(String(16), default=UploadState.QUEUED)
    attempts: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime]
    woken_at: Mapped[datetime | None]
    lease_owner: Mapped[str] = mapped_column(String(255), default="")
    lease_until: Mapped[datetime | None]
    progress: Mapped[dict[str, Any]] = mapped_column(default=dict)  # phase, done, total
    result: Mapped[dict[str, Any]] = mapped_column(default=dict)  # as of `lungnode classify --json`
    reason: Mapped[str] = mapped_column(Text, default="")  # why it failed
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]  # empty: it is kept
