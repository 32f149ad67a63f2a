"""The images of one series as a viewer shows them; the caller owns the transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Disposition, Instance, Study


@dataclass(frozen=True)
class StoredImage:
    """Where one instance lies and how many frames it has."""

    sop_instance_uid: str
    frames: int
    instance_number: int | None
    position: Sequence[Any] | None  # as sent: Image Position (0020,0032), mm
    orientation: Sequence[Any] | None  # as sent: Image Orientation (0020,0037)


def list_images(session: Session, study: Study, series_instance_uid: str) -> list[StoredImage]:
    """Return the instances of a series whose files are there, in the order in which they came."""
    columns = (
        Instance.sop_instance_uid,
        Instance.number_of_frames,
        Instance.instance_number,
        Instance.image_position,
        Instance.image_orientation,
    )
    query = select(*columns).where(
        Instance.study_id == study.id,
        Instance.series_instance_uid == series_instance_uid,
        Instance.disposition == Disposition.ARCHIVED,
        Instance.deleted_at.is_(None),
    )
    return [StoredImage(*row) for row in session.execute(query.order_by(Instance.id))]
