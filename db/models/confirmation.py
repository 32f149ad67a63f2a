"""Confirmations: whether a destination keeps what it stored, asked by storage commitment or C-FIND."""

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.models.base import Base

if TYPE_CHECKING:
    from db.models.work import Delivery


class ConfirmationState(StrEnum):
    """pending -> asking -> awaiting -> confirmed | failed | resent (and then pending again) | unconfirmed."""

    PENDING = "pending"
    ASKING = "asking"
    AWAITING = "awaiting"  # the destination took a commitment request; its report is due
    CONFIRMED = "confirmed"
    RESENT = "resent"  # some instances were not kept: the delivery sends them again
    FAILED = "failed"  # some instances were not kept, and will not be
    UNCONFIRMED = "unconfirmed"  # the destination tells neither


class ConfirmationMethod(StrEnum):
    """How a destination is asked."""

    COMMITMENT = "commitment"
    QUERY = "query"


class Confirmation(Base):
    """What is known of one delivery after it was stored."""

    __tablename__ = "confirmations"
    __table_args__ = (Index("ix_confirmations_due", "state", "due_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    delivery_id: Mapped[int] = mapped_column(ForeignKey("deliveries.id"), unique=True)
    state: Mapped[str] = mapped_column(String(16), default=ConfirmationState.PENDING)
    method: Mapped[str] = mapped_column(String(16))  # by which it is asked next, or was confirmed
    attempts: Mapped[int] = mapped_column(default=0)
    resends: Mapped[int] = mapped_column(default=0)  # how often the delivery was sent again because of it
    due_at: Mapped[datetime]
    woken_at: Mapped[datetime | None]
    lease_owner: Mapped[str] = mapped_column(String(255), default="")
    lease_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    reason: Mapped[str] = mapped_column(Text, default="")

    delivery: Mapped["Delivery"] = relationship(back_populates="confirmation")
    transactions: Mapped[list["CommitmentTransaction"]] = relationship(back_populates="confirmation")


class CommitmentTransaction(Base):
    """One commitment request of ours; written before it is sent, so that its report is always known."""

    __tablename__ = "commitment_transactions"

    transaction_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    confirmation_id: Mapped[int] = mapped_column(ForeignKey("confirmations.id"), index=True)
    asked_at: Mapped[datetime]

    confirmation: Mapped[Confirmation] = relationship(back_populates="transactions")
