"""Which files the rows of the database name."""

from collections.abc import Iterator
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.backup.tree import ARCHIVE, OUTPUTS, QUARANTINE
from db.models import Instance, Output, Quarantined, Upload

_NONE: Final = ""
_AT_ONCE: Final = 1000


def named_files(session: Session) -> Iterator[tuple[str, str]]:
    """Yield path below the data folder and SHA-256, or "", of each file that a row needs."""
    for folder, row in ((ARCHIVE, Instance), (OUTPUTS, Output)):
        query = select(row.path, row.digest).where(row.deleted_at.is_(None))
        for each in session.execute(query.execution_options(yield_per=_AT_ONCE)):
            yield f"{folder}/{each.path}", each.digest
    for path in session.scalars(select(Quarantined.path).execution_options(yield_per=_AT_ONCE)):
        yield f"{QUARANTINE}/{path}", _NONE


def kept_uploads(session: Session) -> list[str]:
    """Return the folders of the uploads that do not go by themselves."""
    return list(session.scalars(select(Upload.key).where(Upload.expires_at.is_(None))))
