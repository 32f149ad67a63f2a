"""What the clerk writes: associations, studies, instances, and a study's completion.

The caller owns the transaction, and begins it with `serialise`.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from db.models import (
    Analysis,
    AssociationRecord,
    AssociationStudy,
    Base,
    Disposition,
    Instance,
    Output,
    Quarantined,
    Study,
    StudyState,
)

# Clerks write one after the other, so that none judges a study while another adds to it.
_CLERK_LOCK: Final = 7_302_115_489


def serialise(session: Session) -> None:
    """Let no other clerk write until this transaction ends; SQLite does so by itself."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CLERK_LOCK})


def mirror_associations(session: Session, rows: Collection[Mapping[str, Any]]) -> None:
    """Insert associations, or renew lease and outcome of known ones; one that closed never opens again."""
    if not rows:
        return
    statement = _insert(session, AssociationRecord)
    renewed = {name: statement.excluded[name] for name in ("lease_until", "closed_at", "outcome")}
    is_open = AssociationRecord.closed_at.is_(None)
    session.execute(
        statement.on_conflict_do_update(index_elements=["id"], set_=renewed, where=is_open), list(rows)
    )


def still_open(session: Session, association_ids: Collection[str]) -> set[str]:
    """Return which of these associations are not recorded as closed."""
    closed = select(AssociationRecord.id).where(
        AssociationRecord.id.in_(association_ids), AssociationRecord.closed_at.is_not(None)
    )
    return set(association_ids) - set(session.scalars(closed))


def link_studies(session: Session, pairs: Iterable[tuple[str, str]]) -> None:
    """Record which studies (UIDs) associations (identifiers) carried; a repeat changes nothing."""
    rows = [{"association_id": one, "study_instance_uid": two} for one, two in sorted(set(pairs))]
    add_missing(session, AssociationStudy, rows)


def held_instances(session: Session, sop_instance_uids: Collection[str]) -> dict[str, list[Instance]]:
    """Return the instances that are already there, by SOP Instance UID, the first to come first."""
    found: dict[str, list[Instance]] = {}
    query = select(Instance).where(Instance.sop_instance_uid.in_(sop_instance_uids)).order_by(Instance.id)
    for instance in session.scalars(query):
        found.setdefault(instance.sop_instance_uid, []).append(instance)
    return found


def own_outputs(
    session: Session, sop_instance_uids: Collection[str], series_instance_uids: Collection[str]
) -> tuple[set[str], set[str]]:
    """Return which of these SOP Instance and Series Instance UIDs are of results that we composed."""
    query = select(Output.sop_instance_uid, Output.series_instance_uid).where(
        or_(
            Output.sop_instance_uid.in_(sop_instance_uids),
            Output.series_instance_uid.in_(series_instance_uids),
        )
    )
    rows = session.execute(query).all()
    return {row[0] for row in rows}, {row[1] for row in rows}


def ensure_studies(session: Session, rows: Collection[Mapping[str, Any]]) -> dict[str, Study]:
    """Insert the studies that are not there yet; returns all of them by Study Instance UID."""
    add_missing(session, Study, rows)
    uids = [row["study_instance_uid"] for row in rows]
    query = select(Study).where(Study.study_instance_uid.in_(uids))
    return {study.study_instance_uid: study for study in session.scalars(query)}


def add_instances(session: Session, rows: Collection[Mapping[str, Any]]) -> None:
    """Insert instances; one that is there already (same UID, same bytes) is left as it is."""
    add_missing(session, Instance, rows)


def note_copy(session: Session, instance_id: int, note: str) -> None:
    """Record that an instance came again; each kind of copy is noted once."""
    instance = session.get_one(Instance, instance_id)
    notes = instance.note.split("\n") if instance.note else []
    if note not in notes:
        instance.note = "\n".join([*notes, note])


def add_quarantined(session: Session, rows: Collection[Mapping[str, Any]]) -> None:
    """Insert quarantined files; a repeat changes nothing."""
    add_missing(session, Quarantined, rows)


@dataclass(frozen=True)
class Receiving:
    """A study that is not judged complete, and how to tell that its instances have changed."""

    study: Study
    newest: int  # highest identifier of its instances
    held: int  # those that count: one may have been withdrawn


def receiving_studies(session: Session) -> list[Receiving]:
    """Return the studies that are not judged complete."""
    own = Instance.study_id == Study.id
    newest = select(func.coalesce(func.max(Instance.id), 0)).where(own)
    held = select(func.count()).where(own, Instance.disposition == Disposition.ARCHIVED)
    query = select(Study, newest.scalar_subquery(), held.scalar_subquery())
    receiving = query.where(Study.state == StudyState.RECEIVING).order_by(Study.id)
    return [Receiving(*row) for row in session.execute(receiving)]


def open_study_uids(session: Session, now: datetime) -> set[str]:
    """Return the studies that an open association carried, on any host."""
    query = (
        select(AssociationStudy.study_instance_uid)
        .join(AssociationRecord, AssociationRecord.id == AssociationStudy.association_id)
        .where(AssociationRecord.closed_at.is_(None), AssociationRecord.lease_until > now)
    )
    return set(session.scalars(query))


def geometry_rows(session: Session, study_id: int) -> list[tuple[Any, ...]]:
    """Return series, acquisition, images in acquisition, position, orientation of single-frame images."""
    query = select(
        Instance.series_instance_uid,
        Instance.acquisition_number,
        Instance.images_in_acquisition,
        Instance.image_position,
        Instance.image_orientation,
    ).where(
        Instance.study_id == study_id,
        Instance.disposition == Disposition.ARCHIVED,
        Instance.image_position.is_not(None),
        Instance.number_of_frames == 1,
    )
    return [tuple(row) for row in session.execute(query)]


def has_multi_frame(session: Session, study_id: int) -> bool:
    """Tell whether an image of the study has several frames, whose geometry is not in the index."""
    query = select(Instance.id).where(
        Instance.study_id == study_id,
        Instance.disposition == Disposition.ARCHIVED,
        Instance.number_of_frames > 1,
    )
    return session.scalar(query.limit(1)) is not None


@dataclass(frozen=True)
class Slices:
    """What there is of a study to be analysed."""

    held: int  # not withdrawn, no conflict
    deleted: int  # of them, without their file
    withdrawn: int
    is_new: bool  # some were in no revision yet


def slices_of(session: Session, study_id: int, sop_classes: Collection[str]) -> Slices:
    """Count a study's instances of some SOP classes."""
    held = Instance.disposition == Disposition.ARCHIVED
    query = select(
        func.count().filter(held),
        func.count().filter(held, Instance.deleted_at.is_not(None)),
        func.count().filter(Instance.disposition == Disposition.WITHDRAWN),
        func.count().filter(held, Instance.revision.is_(None)),
    ).where(Instance.study_id == study_id, Instance.sop_class_uid.in_(sop_classes))
    held_count, deleted, withdrawn, new = session.execute(query).one()
    return Slices(held_count, deleted, withdrawn, new > 0)


def is_analysed(session: Session, study: Study) -> bool:
    """Tell whether the study's last revision has an analysis, ended or not, that nobody withdrew."""
    query = select(Analysis.id).where(
        Analysis.study_id == study.id, Analysis.revision == study.revision, Analysis.withdrawn == ""
    )
    return session.scalar(query.limit(1)) is not None


def complete_study(session: Session, study: Study, note: str) -> int:
    """Close the study's next revision over all instances that have none; returns its number."""
    study.revision += 1
    study.completeness = note
    close_study(session, study)
    return study.revision


def close_study(session: Session, study: Study) -> None:
    """Receive no longer; instances that are in no revision belong to the last one."""
    study.state = StudyState.COMPLETE
    session.execute(
        update(Instance)
        .where(Instance.study_id == study.id, Instance.revision.is_(None))
        .values(revision=study.revision)
        .execution_options(synchronize_session=False)
    )


def add_missing(session: Session, table: type[Base], rows: Collection[Mapping[str, Any]]) -> None:
    """Insert rows; one that breaks a unique constraint is there already and stays as it is."""
    if rows:
        session.execute(_insert(session, table).on_conflict_do_nothing(), list(rows))


def _insert(session: Session, table: type[Base]) -> Any:
    # Two classes with the same methods and no common base for them.
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    return dialect.insert(table)
