"""Uploads: what becomes of them, and when they go; the caller owns the transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from db.models import Upload, UploadState, WebSession
from db.work import Work

UPLOADS: Final = Work(
    row=Upload,
    waiting=(UploadState.QUEUED,),
    running=UploadState.RUNNING,
    retry=UploadState.QUEUED,
    exhausted=UploadState.FAILED,
    extra_claims=0,
    order=(Upload.due_at, Upload.id),
)
ATTEMPTS: Final = 1  # somebody waits for the answer: they see that it failed, and try again


@dataclass(frozen=True)
class Owner:
    """Whose an upload is."""

    account_id: int
    session: str = ""


def find_upload(session: Session, key: str, owner: Owner) -> Upload | None:
    """Return an upload of somebody; another one's is as if it were not there."""
    return session.scalar(select(Upload).where(Upload.key == key, Upload.account_id == owner.account_id))


def list_uploads(session: Session, owner: Owner, limit: int = 100) -> Sequence[Upload]:
    """Return the uploads of somebody, the newest first."""
    query = select(Upload).where(Upload.account_id == owner.account_id).order_by(Upload.id.desc())
    return session.scalars(query.limit(limit)).all()


def expired_uploads(session: Session, now: datetime, limit: int = 100) -> Sequence[Upload]:
    """Return the uploads whose time has come, or whose session has ended; kept ones are none of them."""
    has_ended = and_(
        Upload.session != "", ~select(WebSession).where(WebSession.digest == Upload.session).exists()
    )
    query = select(Upload).where(
        Upload.expires_at.is_not(None),
        or_(Upload.expires_at <= now, has_ended),
        Upload.state != UploadState.RUNNING,
    )
    return session.scalars(query.limit(limit)).all()
