"""What operators are told of by themselves."""

from datetime import datetime

from sqlalchemy import Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base


class Alert(Base):
    """Something that is wrong, from when it was seen first until it is not any more."""

    __tablename__ = "alerts"
    # One that lasts is one row, however many web processes look.
    __table_args__ = (
        Index(
            "ix_alerts_open",
            "name",
            "subject",
            unique=True,
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64))  # what kind: "disk low"
    subject: Mapped[str] = mapped_column(String(255))  # of what: a destination, a program; never a patient
    sentence: Mapped[str] = mapped_column(Text)
    began_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    told_at: Mapped[datetime | None]  # when the operators were told that it began
    end_told_at: Mapped[datetime | None]
