"""Who did what."""

from datetime import datetime
from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base


class AuditEvent(Base):
    """Who did what to labels, models and studies."""

    __tablename__ = "audit_events"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(String(255))  # the account that ran the command
    action: Mapped[str] = mapped_column(String(64))  # a noun and a verb: "model promoted"
    subject: Mapped[str] = mapped_column(String(255))  # what it was done to: a UID, a digest
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
