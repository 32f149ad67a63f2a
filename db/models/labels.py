"""What readers and tests said of studies, and who is never trained on."""

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.models.base import Base

if TYPE_CHECKING:
    from db.models.studies import Study


class LabelValue(StrEnum):
    """What a label says of a study."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    UNCERTAIN = "uncertain"


class LabelSource(StrEnum):
    """Where a label comes from."""

    RT_PCR = "rt-pcr"
    READER = "reader"
    CLINICAL = "clinical"
    IMPORT = "import"


class Label(Base):
    """What one reader or test said of a study; several are kept side by side."""

    __tablename__ = "labels"
    __table_args__ = (UniqueConstraint("study_id", "source", "reader", "labelled_on"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"))
    value: Mapped[str] = mapped_column(String(16))  # positive | negative | uncertain
    source: Mapped[str] = mapped_column(String(16))  # rt-pcr | reader | clinical | import
    reader: Mapped[str] = mapped_column(String(255), default="")
    labelled_on: Mapped[str] = mapped_column(String(10), default="")  # YYYY-MM-DD
    symptomatic: Mapped[bool | None]
    created_at: Mapped[datetime]

    study: Mapped["Study"] = relationship(back_populates="labels")


class TestSet(Base):
    """Patients that are never trained on, frozen once."""

    __tablename__ = "test_sets"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    digest: Mapped[str] = mapped_column(String(64))  # SHA-256 of its studies and their labels
    created_at: Mapped[datetime]

    members: Mapped[list["TestSetMember"]] = relationship(back_populates="test_set")


class TestSetMember(Base):
    """One study of a frozen test set, with the label it was frozen with."""

    __tablename__ = "test_set_members"

    test_set_id: Mapped[int] = mapped_column(ForeignKey("test_sets.id"), primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), primary_key=True, index=True)
    value: Mapped[str] = mapped_column(String(16))

    test_set: Mapped[TestSet] = relationship(back_populates="members")
