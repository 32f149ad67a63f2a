"""What sources of studies are asked while a study is being received, and what they answered."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base


class InquiryKind(StrEnum):
    """What is wanted of the source."""

    COUNT = "count"  # how many images it has
    FETCH = "fetch"  # that it sends those that are missing here


class InquiryState(StrEnum):
    """pending -> asking -> answered | refused (as things are) | unanswered (in vain, or too late)."""

    PENDING = "pending"
    ASKING = "asking"
    ANSWERED = "answered"
    REFUSED = "refused"
    UNANSWERED = "unanswered"


class Inquiry(Base):
    """One question about one revision of a study: work for a clerk, then its answer."""

    __tablename__ = "inquiries"
    __table_args__ = (
        UniqueConstraint("study_id", "revision", "kind"),
        Index("ix_inquiries_due", "state", "due_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    revision: Mapped[int]  # that is being received
    kind: Mapped[str] = mapped_column(String(16))
    peer: Mapped[str] = mapped_column(String(255))  # its name
    newest: Mapped[int]  # instances.id of the study's newest one: an answer tells of no later one
    state: Mapped[str] = mapped_column(String(16), default=InquiryState.PENDING)
    attempts: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime]
    woken_at: Mapped[datetime | None]  # not used: clerks look for themselves
    lease_owner: Mapped[str] = mapped_column(String(255), default="")
    lease_until: Mapped[datetime | None]
    asked_at: Mapped[datetime]  # when it was made due last
    finished_at: Mapped[datetime | None]
    present: Mapped[int | None]  # CT images that we had when it was asked
    expected: Mapped[int | None]  # that the peer has
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)  # counts of what was fetched
    reason: Mapped[str] = mapped_column(Text, default="")  # why there is no answer
