"""Rejection notes among what was received, and what they and later instances change about studies."""

import logging
import warnings
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.config import disable_value_validation
from sqlalchemy import select
from sqlalchemy.orm import Session

from daemon.clerk.plan import ANALYSED_CLASSES, Plan
from db.corrections import COLUMNS, IDENTITY, ISSUER, Said, correct, new_identity
from db.models import Disposition, Study
from db.withdrawals import apply_withdrawals, keep_note
from lungnode.rejection import Note, read_note
from lungnode.rules import DEFAULT_RULE, first_match
from lungnode.settings import Rule, Settings

_MAX_BYTES: Final = 16_000_000  # of a document of which each reference takes some 150
_log = logging.getLogger(__name__)


def read_rejection(path: Path) -> Note | None:
    """Return what a rejection note says; None when the document is something else, or damaged.

    Raises:
        OSError: The file cannot be read.
    """
    if path.stat().st_size > _MAX_BYTES:
        return None
    with path.open("rb") as file, disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read_note(dcmread(file))
        except Exception as error:  # damaged data sets make pydicom raise almost anything
            if isinstance(error, OSError) and error.errno is not None:
                raise
            # It is kept like any other instance, and rejects nothing.
            _log.warning("a key object selection cannot be read (%s)", type(error).__name__)
            return None


def take_notes(session: Session, plans: Sequence[Plan], settings: Settings, now: datetime) -> None:
    """Withdraw what new rejection notes name, and what earlier ones named of the instances that are new."""
    named = {plan.reading.header.sop_instance_uid for plan in plans}
    for plan in plans:
        note, is_new = plan.reading.note, plan.repeats is None and plan.disposition is Disposition.ARCHIVED
        if note is not None and is_new and _rule(plan, settings).rejection_notes:
            keep_note(session, note, plan.reading.received_at)
            named |= {uid for _, uid in note.instances}
            sender, words = plan.reading.facts.calling_ae_title, note.title.code.meaning
            _log.info("%s rejects %d instances: %s", sender, len(note.instances), words)
    apply_withdrawals(session, settings, named, ANALYSED_CLASSES, now)


def take_corrections(session: Session, plans: Sequence[Plan], settings: Settings, now: datetime) -> None:
    """Believe what slices say of a patient that nobody has said of their study before."""
    slices = [plan for plan in plans if _is_slice(plan)]
    uids = {plan.reading.header.study_instance_uid for plan in slices}
    query = select(Study).where(Study.study_instance_uid.in_(uids))
    studies = {study.study_instance_uid: study for study in session.scalars(query)}
    for plan in slices:
        header = plan.reading.header
        uid = header.study_instance_uid
        study = studies[uid]
        seen = {keyword: header.study_texts[COLUMNS[keyword]] for keyword in IDENTITY}
        changed = new_identity(session, study, seen | {ISSUER: header.issuer_of_patient_id})
        if changed and _rule(plan, settings).corrections:
            source = f"instance {header.sop_instance_uid} from {plan.reading.facts.calling_ae_title}"
            correct(session, settings, study, Said(changed, source), now)
            _log.warning("study %s is of a corrected patient, says %s", uid, source)


def _is_slice(plan: Plan) -> bool:
    is_image = plan.reading.header.sop_class_uid in ANALYSED_CLASSES
    return is_image and plan.disposition is Disposition.ARCHIVED


def _rule(plan: Plan, settings: Settings) -> Rule:
    return first_match(settings.rules, plan.reading.facts) or DEFAULT_RULE
