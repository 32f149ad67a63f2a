"""Who did what: events, chained in batches that nobody can rewrite unseen."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base


class AuditEvent(Base):
    """Who did what to studies, labels, models and accounts; never changed once it is in a batch."""

    __tablename__ = "audit_events"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(String(255))  # account, user or AE title
    action: Mapped[str] = mapped_column(String(64))  # a noun and a verb: "model promoted"
    subject: Mapped[str] = mapped_column(String(255), index=True)  # what it was done to: a UID, a digest
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)  # no name and no ID of a patient
    outcome: Mapped[int] = mapped_column(default=0)  # EventOutcomeIndicator: 0, 4, 8 or 12
    # What makes the message of PS3.15, until the clerk encodes it.
    draft: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    message: Mapped[str] = mapped_column(Text, default="")
    batch_id: Mapped[int | None] = mapped_column(ForeignKey("audit_batches.id"), index=True)


class ForwardState(StrEnum):
    """pending -> sending -> sent: a batch on its way to the syslog server."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"


class AuditBatch(Base):
    """Events that were chained together: its head covers each of them and the head before."""

    __tablename__ = "audit_batches"
    __table_args__ = (Index("ix_audit_batches_due", "state", "due_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]
    previous: Mapped[str] = mapped_column(String(64), unique=True)  # so no two batches follow the same one
    head: Mapped[str] = mapped_column(String(64), unique=True)
    events: Mapped[list[Any]]  # [id, SHA-256] each, in their order
    state: Mapped[str] = mapped_column(String(16), default=ForwardState.PENDING)
    attempts: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime]
    woken_at: Mapped[datetime | None]
    lease_owner: Mapped[str] = mapped_column(String(255), default="")
    lease_until: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    reason: Mapped[str] = mapped_column(Text, default="")  # why the last attempt to send it failed
