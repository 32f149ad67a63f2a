"""The rows of one batch: studies, instances, notes, and which association carried what."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from daemon.clerk.plan import ANALYSED_CLASSES, Plan
from daemon.clerk.rejections import take_corrections, take_notes
from db import intake
from db.models import Disposition, Instance, Study, StudyState
from db.withdrawals import revive
from lungnode.rules import first_match
from lungnode.settings import Rule, Settings


def write_rows(
    session: Session, plans: Sequence[Plan], paths: Mapping[str, str], settings: Settings, now: datetime
) -> None:
    """Insert studies and instances, note the copies, link the associations; then what follows from them.

    Args:
        session: Within the caller's transaction.
        plans: What becomes of each file of the batch.
        paths: Where new files are below the archive, by their digest.
        settings: Their rules, and the destinations that may have to be told.
        now: The time.
    """
    new = [plan for plan in plans if plan.repeats is None]
    studies = intake.ensure_studies(session, _study_rows(new))
    rows = []
    for plan in new:
        study = studies[plan.reading.header.study_instance_uid]
        if plan.disposition is Disposition.ARCHIVED:
            _update_study(study, plan, settings.rules)
        study.files_deleted_at = None
        rows.append(_instance_row(plan, study, paths[plan.reading.digest]))
    session.flush()
    intake.add_instances(session, rows)
    for plan in plans:
        if plan.repeats is not None:
            _write_repeat(session, plan, plan.repeats.id, paths)
    intake.link_studies(session, _links(plans))
    take_corrections(session, plans, settings, now)
    take_notes(session, plans, settings, now)


def _update_study(study: Study, plan: Plan, rules: Sequence[Rule]) -> None:
    study.expired = ""
    if not study.rule:
        rule = first_match(rules, plan.reading.facts)
        study.rule = rule.name if rule else ""
    if _reopens(study, plan):
        study.reopen(plan.reading.received_at)


def _write_repeat(session: Session, plan: Plan, instance_id: int, paths: Mapping[str, str]) -> None:
    """Note a copy; where the file of the first one was deleted, this one is in its place."""
    if plan.note:
        intake.note_copy(session, instance_id, plan.note)
    instance, reading = session.get_one(Instance, instance_id), plan.reading
    study, is_sent = instance.study, reading.received.association is not None
    is_back = is_sent and revive(session, instance, reading.received_at)
    if instance.deleted_at is not None and reading.digest in paths:
        _restore(instance, plan, paths)
        is_back = instance.disposition == Disposition.ARCHIVED
    elif is_sent and reading.digest == instance.digest:
        instance.path = paths.get(reading.digest, instance.path)  # a lost file is back, maybe elsewhere
    if is_back and _reopens(study, plan):
        study.reopen(reading.received_at)


def _restore(instance: Instance, plan: Plan, paths: Mapping[str, str]) -> None:
    reading = plan.reading
    instance.path, instance.size, instance.digest = paths[reading.digest], reading.size, reading.digest
    instance.transfer_syntax_uid = reading.header.transfer_syntax_uid
    instance.deleted_at = instance.study.files_deleted_at = None


def _reopens(study: Study, plan: Plan) -> bool:
    is_first = study.revision == 0
    return (
        is_first
        or study.state == StudyState.RECEIVING
        or plan.reading.header.sop_class_uid in ANALYSED_CLASSES
    )


def _links(plans: Sequence[Plan]) -> list[tuple[str, str]]:
    return [
        (each.received.association.id, each.header.study_instance_uid)
        for plan in plans
        for each in (plan.reading, *plan.copies)
        if each.received.association is not None
    ]


def _study_rows(plans: Sequence[Plan]) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for plan in plans:
        reading, facts = plan.reading, plan.reading.facts
        is_own = plan.disposition is Disposition.OWN_OUTPUT
        rows.setdefault(
            reading.header.study_instance_uid,
            {
                "study_instance_uid": reading.header.study_instance_uid,
                **reading.header.study_texts,
                "calling_ae_title": facts.calling_ae_title,
                "called_ae_title": facts.called_ae_title,
                "address": facts.address,
                # Our own result alone is nothing to wait for.
                "state": StudyState.COMPLETE if is_own else StudyState.RECEIVING,
                "created_at": reading.received_at,
                "changed_at": reading.received_at,
            },
        )
    return list(rows.values())


def _instance_row(plan: Plan, study: Study, path: str) -> dict[str, Any]:
    reading, header = plan.reading, plan.reading.header
    waits = study.state == StudyState.RECEIVING
    return {
        "study_id": study.id,
        "series_instance_uid": header.series_instance_uid,
        "sop_instance_uid": header.sop_instance_uid,
        "sop_class_uid": header.sop_class_uid,
        "transfer_syntax_uid": header.transfer_syntax_uid,
        "modality": header.modality,
        "instance_number": header.instance_number,
        "number_of_frames": header.number_of_frames,
        "images_in_acquisition": header.images_in_acquisition,
        "acquisition_number": header.acquisition_number,
        "image_position": header.image_position,
        "image_orientation": header.image_orientation,
        "path": path,
        "size": reading.size,
        "digest": reading.digest,
        "disposition": plan.disposition,
        "note": plan.note,
        "revision": None if waits or study.revision == 0 else study.revision,
        "association_id": reading.received.association.id if reading.received.association else "",
        "received_at": reading.received_at,
    }
