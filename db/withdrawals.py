"""What does not count any more: slices that rejection notes name, and results that were made of wrong input.

The caller owns the transaction, and holds the clerks' lock (`db.intake.serialise`).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Final

from sqlalchemy import exists, func, or_, select, update
from sqlalchemy.orm import Session

from db import audit
from db.deliveries import void_group
from db.intake import add_missing
from db.labels import chunks
from db.models import (
    Analysis,
    Delivery,
    DeliveryState,
    Disposition,
    Instance,
    Study,
    StudyState,
    Withdrawal,
)
from lungnode.rejection import GROUP, Note, Title, group_name
from lungnode.settings import DicomObjects, Settings

_LAST: Final = select(Withdrawal.code, func.max(Withdrawal.received_at)).group_by(Withdrawal.code)
_MAY_HAVE_ARRIVED: Final = (DeliveryState.SENDING, DeliveryState.STORED, DeliveryState.COMMITTED)


@dataclass(frozen=True)
class Withdrawn:
    """One instance that was flagged, and by which note."""

    study_id: int
    sop_class_uid: str
    title: Title
    note_uid: str


def keep_note(session: Session, note: Note, received_at: datetime) -> None:
    """Write down what a note names, whether that is here already or comes later; a repeat changes nothing."""
    rows = [
        {
            "study_instance_uid": study,
            "sop_instance_uid": uid,
            "note_uid": note.sop_instance_uid,
            "code": note.title.value,
            "received_at": received_at,
        }
        for study, uid in note.instances
    ]
    add_missing(session, Withdrawal, rows)


def apply_withdrawals(
    session: Session,
    settings: Settings,
    sop_instance_uids: Iterable[str],
    analysed_classes: Collection[str],
    now: datetime,
) -> None:
    """Flag those of these instances that a note names, with all that follows for their studies."""
    flagged = sorted(_flag(session, sop_instance_uids), key=_study_id)
    for study_id, group in groupby(flagged, key=_study_id):
        study = session.get_one(Study, study_id)
        withdrawn = list(group)
        titles = sorted({each.title for each in withdrawn})
        audit.record(
            session,
            "instances withdrawn",
            study.study_instance_uid,
            now,
            titles=titles,
            instances=len(withdrawn),
        )
        slices = [each for each in withdrawn if each.sop_class_uid in analysed_classes]
        if slices:
            _follow(session, settings, study, slices, now)


def _study_id(each: Withdrawn) -> int:
    return each.study_id


def _flag(session: Session, sop_instance_uids: Iterable[str]) -> list[Withdrawn]:
    """What comes after its retention expired elsewhere was sent on purpose, and stays."""
    found = []
    is_in_time = or_(
        Withdrawal.code != Title.RETENTION_EXPIRED, Withdrawal.received_at >= Instance.received_at
    )
    for uids in chunks(sop_instance_uids):
        query = (
            select(Instance, Withdrawal)
            .join(Study, Instance.study_id == Study.id)
            .join(Withdrawal, Withdrawal.sop_instance_uid == Instance.sop_instance_uid)
            .where(Withdrawal.study_instance_uid == Study.study_instance_uid, is_in_time)
            .where(Instance.sop_instance_uid.in_(uids), Instance.disposition == Disposition.ARCHIVED)
            .order_by(Withdrawal.id)
        )
        for instance, withdrawal in session.execute(query).all():
            title = Title(withdrawal.code)
            instance.disposition = Disposition.WITHDRAWN
            said = f"Withdrawn by rejection note {withdrawal.note_uid}: {title.code.meaning}."
            instance.note = "\n".join(filter(None, (instance.note, said)))
            found.append(Withdrawn(instance.study_id, instance.sop_class_uid, title, withdrawal.note_uid))
    return found


def revive(session: Session, instance: Instance, at: datetime) -> bool:
    """Let an instance count again that comes after its retention expired elsewhere; tell whether it does."""
    if instance.disposition != Disposition.WITHDRAWN:
        return False
    named = Withdrawal.sop_instance_uid == instance.sop_instance_uid
    last = session.execute(_LAST.where(named)).all()
    if any(code != Title.RETENTION_EXPIRED or received_at >= at for code, received_at in last):
        return False
    instance.disposition, instance.received_at = Disposition.ARCHIVED, at
    instance.study.expired = ""
    return True


def _follow(
    session: Session, settings: Settings, study: Study, slices: Collection[Withdrawn], now: datetime
) -> None:
    """Do to a study what withdrawn slices mean for it: a new revision, or a wish to delete it."""
    wrong = [each for each in slices if each.title.is_about_content]
    if wrong:
        title = wrong[0].title
        why = f"Slices were withdrawn by a rejection note: {title.code.meaning}."
        withdraw_results(session, settings, study, why, title, now)
        if study.state == StudyState.RECEIVING or has_analyses(session, study.id):
            study.reopen(now)
    elif not _has_slices(session, study.id, {each.sop_class_uid for each in slices}):
        note = next(iter(slices))
        study.expired = f"rejection note {note.note_uid}: {note.title.code.meaning}"
        if study.state == StudyState.COMPLETE:
            study.state = StudyState.WITHDRAWN


def has_analyses(session: Session, study_id: int) -> bool:
    """Tell whether anything was ever made of a study, or is about to be."""
    return bool(session.scalar(select(exists().where(Analysis.study_id == study_id))))


def _has_slices(session: Session, study_id: int, sop_classes: Collection[str]) -> bool:
    held = (Instance.disposition == Disposition.ARCHIVED, Instance.sop_class_uid.in_(sop_classes))
    return bool(session.scalar(select(exists().where(Instance.study_id == study_id, *held))))


def withdraw_results(
    session: Session, settings: Settings, study: Study, why: str, title: Title, now: datetime
) -> None:
    """Let no result of a study count that was made so far; destinations that want to are told so.

    What waits to be sent is not sent any more. A result that may have arrived is named by a rejection note,
    which follows it.
    """
    query = select(Analysis).where(Analysis.study_id == study.id, Analysis.withdrawn == "")
    for analysis in session.scalars(query.order_by(Analysis.id)).all():
        analysis.withdrawn = why
        session.flush()
        own = (Delivery.analysis_id == analysis.id, Delivery.group.not_like(f"{GROUP}-%"))
        stopped = update(Delivery).where(*own, Delivery.state == DeliveryState.PENDING)
        values = {"state": DeliveryState.WITHDRAWN, "finished_at": now, "reason": why, "advice": ""}
        session.execute(stopped.values(values).execution_options(synchronize_session=False))
        _tell_destinations(session, settings, analysis, title, now)


def _tell_destinations(
    session: Session, settings: Settings, analysis: Analysis, title: Title, now: datetime
) -> None:
    of_analysis = Delivery.analysis_id == analysis.id
    # A courier fixes the group of a delivery before its first byte.
    begun = or_(Delivery.negotiated_at.is_not(None), Delivery.state.in_(_MAY_HAVE_ARRIVED))
    reached = set(session.scalars(select(Delivery.destination).where(of_analysis, begun)))
    number = session.scalar(select(func.count()).where(of_analysis, Delivery.group.like(f"{GROUP}-%"))) or 0
    for destination in settings.destinations:
        if destination.name not in reached:
            continue
        if not isinstance(destination, DicomObjects):
            group = void_group(destination.kind)
        elif destination.rejection_notes:
            number += 1
            group = group_name(title, number)
        else:
            continue
        row = Delivery(analysis_id=analysis.id, destination=destination.name, priority=analysis.priority)
        row.group, row.due_at, row.created_at = group, now, now
        session.add(row)
