"""What readers said of results."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base


class Agreement(StrEnum):
    """What a reader said of a verdict."""

    AGREE = "agree"
    DISAGREE = "disagree"
    UNCERTAIN = "uncertain"


class Feedback(Base):
    """What one reader says of a study's result; the label that became of it is in `labels`."""

    __tablename__ = "feedback"
    __table_args__ = (UniqueConstraint("study_id", "reader"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    analysis_id: Mapped[int] = mapped_column(ForeignKey("analyses.id"), index=True)  # what was looked at
    reader: Mapped[str] = mapped_column(String(64))  # the account
    agreement: Mapped[str] = mapped_column(String(16))
    value: Mapped[str] = mapped_column(String(16))  # of the label
    remark: Mapped[str] = mapped_column(Text, default="")
    labelled_on: Mapped[str] = mapped_column(String(10))  # of the label, YYYY-MM-DD: when it was said first
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]
