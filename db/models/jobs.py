"""Long work that somebody asked for in the web."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base


class JobState(StrEnum):
    """How far it is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Job(Base):
    """A command that a web process runs for somebody."""

    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(32), index=True)  # what is done: "promotion"
    subject: Mapped[str] = mapped_column(String(255))  # what it is done to: a model
    account: Mapped[str] = mapped_column(String(64))  # who asked for it
    state: Mapped[str] = mapped_column(String(16), default=JobState.RUNNING)
    result: Mapped[dict[str, Any]] = mapped_column(default=dict)
    reason: Mapped[str] = mapped_column(Text, default="")  # why it failed
    lease_until: Mapped[datetime]  # the web process that runs it renews this; one that is silent is gone
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
