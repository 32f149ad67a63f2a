"""What was changed about studies after they came: corrected patients, withdrawn slices, erased studies."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.models.base import Base

if TYPE_CHECKING:
    from db.models.studies import Study


class Correction(Base):
    """What a study's outputs and its index say instead of its files, which stay as they came."""

    __tablename__ = "corrections"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    revision: Mapped[int]  # the first one whose outputs say it
    at: Mapped[datetime]
    source: Mapped[str] = mapped_column(
        String(255)
    )  # the account that said so, or an instance and its sender
    attributes: Mapped[dict[str, Any]]  # by keyword: what holds from now on
    replaced: Mapped[dict[str, Any]]  # the same keywords: what held before

    study: Mapped["Study"] = relationship(back_populates="corrections")


class Withdrawal(Base):
    """What a rejection note said of one instance, whether that is here already or not."""

    __tablename__ = "withdrawals"
    __table_args__ = (UniqueConstraint("sop_instance_uid", "note_uid"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    sop_instance_uid: Mapped[str] = mapped_column(String(64))
    note_uid: Mapped[str] = mapped_column(String(64))  # SOP Instance UID of the rejection note
    code: Mapped[str] = mapped_column(String(16))  # of its document title
    received_at: Mapped[datetime]


class Erasure(Base):
    """A study whose rows are erased and whose last traces may still have to go; then this row goes, too."""

    __tablename__ = "erasures"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    at: Mapped[datetime]
    contents: Mapped[list[Any]]  # digests of slices, by which features are found
