"""Which of several programs does what one of them has to do."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base


class Leadership(Base):
    """A duty that one program has, until its lease runs out or it gives it up."""

    __tablename__ = "leaderships"

    duty: Mapped[str] = mapped_column(String(16), primary_key=True)
    owner: Mapped[str] = mapped_column(String(255))
    lease_until: Mapped[datetime]
