"""Storage commitment that peers ask of us: each request is work, to be verified and then reported."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base


class CommitmentState(StrEnum):
    """requested -> verifying -> verified -> reporting -> reported | refused (permanent) | dead."""

    REQUESTED = "requested"
    VERIFYING = "verifying"
    VERIFIED = "verified"
    REPORTING = "reporting"
    REPORTED = "reported"
    REFUSED = "refused"
    DEAD = "dead"


class CommitmentRequest(Base):
    """What one peer asked for under one Transaction UID, and what we found and told it."""

    __tablename__ = "commitment_requests"
    __table_args__ = (
        UniqueConstraint("calling_ae_title", "transaction_uid", "digest"),
        Index("ix_commitment_requests_due", "state", "due_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    transaction_uid: Mapped[str] = mapped_column(String(64), index=True)
    digest: Mapped[str] = mapped_column(String(64))  # SHA-256 of what it asks for
    source: Mapped[str] = mapped_column(String(128))  # the spool file it last came in: association/number
    association_id: Mapped[str] = mapped_column(String(64))
    calling_ae_title: Mapped[str] = mapped_column(String(16))
    called_ae_title: Mapped[str] = mapped_column(String(16))
    address: Mapped[str] = mapped_column(String(64))
    instances: Mapped[list[Any]]  # {sop_class_uid, sop_instance_uid, failure_reason} each
    state: Mapped[str] = mapped_column(String(16), default=CommitmentState.REQUESTED)
    attempts: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime]
    woken_at: Mapped[datetime | None]
    lease_owner: Mapped[str] = mapped_column(String(255), default="")
    lease_until: Mapped[datetime | None]
    requested_at: Mapped[datetime]
    verified_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    reason: Mapped[str] = mapped_column(Text, default="")  # the last failure to verify or to report


class CommitmentStudy(Base):
    """Which studies a request is about."""

    __tablename__ = "commitment_studies"

    request_id: Mapped[int] = mapped_column(ForeignKey("commitment_requests.id"), primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)
