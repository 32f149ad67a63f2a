"""Corrected patients: what a study's index and outputs say from now on, while its files stay as they came.

The caller owns the transaction, and holds the clerks' lock (`db.intake.serialise`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import audit
from db.models import Correction, Study
from db.withdrawals import has_analyses, withdraw_results
from lungnode.rejection import Title
from lungnode.settings import Settings

# Column of the study for each attribute that can be corrected; the index does not know all of them.
COLUMNS: Final = MappingProxyType(
    {
        "PatientID": "patient_id",
        "PatientName": "patient_name",
        "PatientBirthDate": "patient_birth_date",
        "PatientSex": "patient_sex",
        "AccessionNumber": "accession_number",
    }
)
ISSUER: Final = "IssuerOfPatientID"
KEYWORDS: Final = (*COLUMNS, ISSUER)
IDENTITY: Final = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
_LENGTH: Final = 255  # of a correction's source


@dataclass(frozen=True)
class Said:
    """What somebody says of a study's patient."""

    attributes: Mapping[str, str]  # by keyword
    source: str  # who says so


def correct(session: Session, settings: Settings, study: Study, said: Said, now: datetime) -> bool:
    """Let a study say something else of its patient; False when it says all of it already.

    Results of analyses before it do not count any more. Once the quiet period has passed, a new revision
    makes a report for the corrected patient.
    """
    before = {keyword: effective(session, study, keyword) for keyword in said.attributes}
    changed = {keyword: value for keyword, value in said.attributes.items() if value != before[keyword]}
    if not changed:
        return False
    for keyword, value in changed.items():
        if keyword in COLUMNS:
            setattr(study, COLUMNS[keyword], value)
    row = Correction(
        study_id=study.id,
        revision=study.revision + 1,
        at=now,
        source=said.source[:_LENGTH],
        attributes=changed,
        replaced={keyword: before[keyword] for keyword in changed},
    )
    session.add(row)
    session.flush()
    # What was changed is not told here: values name the patient.
    audit.record(session, "study corrected", study.study_instance_uid, now, attributes=sorted(changed))
    why = f"The patient was corrected: {', '.join(sorted(changed))}."
    withdraw_results(session, settings, study, why, Title.PATIENT_SAFETY, now)
    if has_analyses(session, study.id):
        study.reopen(now)
    return True


def effective(session: Session, study: Study, keyword: str) -> str:
    """Return what holds for an attribute; empty where neither the index nor a correction says it."""
    if keyword in COLUMNS:
        return str(getattr(study, COLUMNS[keyword]))
    return corrected_attributes(session, study.id).get(keyword, "")


def corrected_attributes(session: Session, study_id: int, revision: int | None = None) -> dict[str, str]:
    """Return what outputs of a revision say instead of the files; of the next one when none is named."""
    query = select(Correction.attributes).where(Correction.study_id == study_id)
    if revision is not None:
        query = query.where(Correction.revision <= revision)
    found: dict[str, str] = {}
    for attributes in session.scalars(query.order_by(Correction.id)):
        found |= attributes
    return found


def new_identity(session: Session, study: Study, seen: Mapping[str, str]) -> dict[str, str]:
    """Return what an instance says of the patient that nobody has said of this study yet; empty: nothing.

    Each identity counts once: who still sends the old one after a correction does not undo it.

    Args:
        session: Of the caller's transaction.
        study: As the index has it.
        seen: Attributes of an instance by keyword; an empty value says nothing.
    """
    now_held = {keyword: effective(session, study, keyword) for keyword in IDENTITY}
    wanted = now_held | {keyword: seen[keyword] for keyword in IDENTITY if seen.get(keyword)}
    if _key(wanted) == _key(now_held) or _key(wanted) in map(_key, _earlier(session, study, now_held)):
        return {}
    changed = {name: value for name, value in wanted.items() if _norm(value) != _norm(now_held[name])}
    if "PatientID" in changed:
        changed[ISSUER] = seen.get(ISSUER, "")
    return changed


def _earlier(session: Session, study: Study, held: Mapping[str, str]) -> Sequence[Mapping[str, str]]:
    """Return the identities that the study had, the last one first."""
    query = select(Correction.replaced).where(Correction.study_id == study.id).order_by(Correction.id.desc())
    found, identity = [], dict(held)
    for replaced in session.scalars(query):
        identity |= {keyword: value for keyword, value in replaced.items() if keyword in IDENTITY}
        found.append(dict(identity))
    return found


def _key(identity: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(_norm(identity[keyword]) for keyword in IDENTITY)


def _norm(value: str) -> str:
    """Return what counts of a value. Source: PS3.5 6.2.1.1, trailing delimiters of a name say nothing."""
    components = (group.rstrip(" ^") for group in value.casefold().split("="))
    return "=".join(components).rstrip("=").strip()
