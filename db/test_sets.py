"""Frozen test sets: patients that are measured with and never trained on; the caller owns the transaction.

A set is frozen once. Its digest is the SHA-256 of one line a study, "<Study Instance UID> <label>" and a
newline, in the order of the UIDs: a figure names it, and whoever has the list can check it.
"""

import hashlib
import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db import audit
from db.label_policy import DEFAULT_POLICY
from db.labels import LabelledStudy, labelled_studies, patient_of
from db.models import LabelValue, Study, TestSet, TestSetMember
from lungnode.errors import UnusableError

LEAST_PATIENTS: Final = 2  # of each class: one is measured with, one is left to train on
_NAME: Final = re.compile(r"[^\W_][\w .+-]{0,63}")  # what a command line and a report can show
_TAKEN: Final = "The test set {} is frozen already; a new one needs another name."


@dataclass(frozen=True)
class Draw:
    """How the patients of a test set are drawn."""

    share: float = 0.2  # of the patients of each class that are in no test set yet
    seed: int = 0
    policy: str = DEFAULT_POLICY


@dataclass(frozen=True)
class FrozenStudy:
    """One study of a test set, with the label it was frozen with."""

    study_id: int
    study_instance_uid: str
    patient: str
    value: LabelValue


@dataclass(frozen=True)
class FrozenSet:
    """A test set as it lies in the database."""

    name: str
    digest: str  # as frozen
    created_at: datetime
    studies: tuple[FrozenStudy, ...]  # in the order of their UIDs

    @property
    def patients(self) -> frozenset[str]:
        """Return whom it holds."""
        return frozenset(study.patient for study in self.studies)

    @property
    def is_intact(self) -> bool:
        """Tell whether its studies and labels are still those that were frozen."""
        return digest_of((study.study_instance_uid, study.value) for study in self.studies) == self.digest


@dataclass(frozen=True)
class TrainingStudies:
    """Every labelled study, parted into what may be trained on and why the rest may not."""

    usable: tuple[LabelledStudy, ...]  # positive or negative, ready, of no frozen patient
    frozen: tuple[LabelledStudy, ...]  # of a patient of any test set
    conflicts: tuple[LabelledStudy, ...]
    undecided: tuple[LabelledStudy, ...]  # only uncertain labels, or none that the policy looks at
    unready: tuple[LabelledStudy, ...]  # still being received, or no chest CT


def digest_of(pairs: Iterable[tuple[str, str]]) -> str:
    """Return the digest of (Study Instance UID, label) pairs, whatever their order."""
    lines = "".join(f"{uid} {value}\n" for uid, value in sorted(pairs))
    return hashlib.sha256(lines.encode()).hexdigest()


def freeze(session: Session, name: str, draw: Draw, now: datetime) -> FrozenSet:
    """Draw patients from each class and freeze all their labelled studies under a new name.

    Raises:
        UnusableError: The name is taken or no name, the policy unknown, the share no share, or a class too
            small.
    """
    if not _NAME.fullmatch(name) or name != name.strip():
        raise UnusableError(
            f"A test set cannot be called {name!r}: up to 64 letters, digits, blanks and . _ + - can; the "
            "first is a letter or a digit."
        )
    if session.scalar(select(TestSet.id).where(TestSet.name == name)) is not None:
        raise UnusableError(_TAKEN.format(name))
    if not 0 < draw.share < 1:
        raise UnusableError(f"The share of a test set lies between 0 and 1, got {draw.share}.")
    studies = training_studies(session, draw.policy).usable
    drawn = _drawn_patients(studies, draw)
    chosen = [study for study in studies if study.patient in drawn]
    values = {study.study_id: str(study.ruling.value) for study in chosen}
    digest = digest_of((study.study_instance_uid, values[study.study_id]) for study in chosen)
    row = TestSet(name=name, digest=digest, created_at=now)
    row.members = [TestSetMember(study_id=study_id, value=value) for study_id, value in values.items()]
    session.add(row)
    try:
        session.flush()
    except IntegrityError as error:  # somebody else has frozen it in this moment
        raise UnusableError(_TAKEN.format(name)) from error
    audit.record(
        session, "test set frozen", name, now, digest=digest, studies=len(chosen), patients=len(drawn),
        share=draw.share, seed=draw.seed, policy=draw.policy,
    )  # fmt: skip
    return read_test_set(session, name)


def _drawn_patients(studies: Sequence[LabelledStudy], draw: Draw) -> set[str]:
    """Draw the share of each class; a patient with any positive study counts as positive."""
    everyone = {study.patient for study in studies}
    positive = {study.patient for study in studies if study.ruling.value == LabelValue.POSITIVE}
    drawn: set[str] = set()
    for name, patients in (("positive", positive), ("negative", everyone - positive)):
        if len(patients) < LEAST_PATIENTS:
            raise UnusableError(
                f"A test set needs at least {LEAST_PATIENTS} {name} patients with usable labels who are in "
                f"no test set yet; there are {len(patients)}."
            )
        count = min(max(1, math.floor(draw.share * len(patients) + 0.5)), len(patients) - 1)
        drawn.update(_shuffled(patients, draw.seed)[:count])
    return drawn


def _shuffled(patients: Collection[str], seed: int) -> list[str]:
    # By digests, not by a library's random numbers: the same seed draws the same patients in every version.
    return sorted(patients, key=lambda patient: hashlib.sha256(f"{seed}/{patient}".encode()).digest())


def list_test_sets(session: Session) -> list[FrozenSet]:
    """Return every frozen test set, the oldest first."""
    rows = session.scalars(select(TestSet).order_by(TestSet.created_at, TestSet.id))
    return [_read(session, row) for row in rows]


def read_test_set(session: Session, name: str) -> FrozenSet:
    """Return a frozen test set by its name.

    Raises:
        UnusableError: There is none of that name.
    """
    row = session.scalar(select(TestSet).where(TestSet.name == name))
    if row is None:
        known = ", ".join(session.scalars(select(TestSet.name).order_by(TestSet.name))) or "none yet"
        raise UnusableError(f"There is no test set {name}; frozen are: {known}.")
    return _read(session, row)


def _read(session: Session, row: TestSet) -> FrozenSet:
    query = (
        select(Study, TestSetMember.value)
        .join(TestSetMember, TestSetMember.study_id == Study.id)
        .where(TestSetMember.test_set_id == row.id)
    )
    studies = [
        FrozenStudy(study.id, study.study_instance_uid, patient_of(study), LabelValue(value))
        for study, value in session.execute(query)
    ]
    # Sorted here, for databases compare text by the rules of a language.
    ordered = tuple(sorted(studies, key=lambda study: study.study_instance_uid))
    return FrozenSet(row.name, row.digest, row.created_at, ordered)


def verify(frozen: FrozenSet) -> None:
    """Make sure that a test set is what was frozen, before anything is measured with it.

    Raises:
        UnusableError: Its studies or their labels have changed.
    """
    if not frozen.is_intact:
        raise UnusableError(
            f"The test set {frozen.name} is not what was frozen any more: the labels of its "
            f"{len(frozen.studies)} studies do not give the digest {frozen.digest[:12]}. A study was deleted "
            "from it, or a row changed, as the audit table tells; freeze a new set under another name."
        )


def frozen_patients(session: Session) -> set[str]:
    """Return the patients of all test sets: no study of theirs may be trained on, whenever it arrives."""
    query = select(Study).join(TestSetMember, TestSetMember.study_id == Study.id)
    return {patient_of(study) for study in session.scalars(query).unique()}


def frozen_study_ids(session: Session) -> set[int]:
    """Return every study of a frozen patient, whether it is in a test set itself or not."""
    members = select(TestSetMember.study_id)
    named = func.trim(Study.patient_id)  # as patient_of
    patients = select(named).where(Study.id.in_(members), named != "")
    return set(session.scalars(select(Study.id).where(or_(Study.id.in_(members), named.in_(patients)))))


def training_studies(session: Session, policy: str) -> TrainingStudies:
    """Part the labelled studies into those that may be trained on and the others, by reason.

    Raises:
        UnusableError: There is no such policy.
    """
    patients = frozen_patients(session)
    parts: dict[str, list[LabelledStudy]] = {}
    for study in labelled_studies(session, policy):
        parts.setdefault(_part(study, patients), []).append(study)
    names = ("usable", "frozen", "conflicts", "undecided", "unready")
    return TrainingStudies(**{name: tuple(parts.get(name, ())) for name in names})


def _part(study: LabelledStudy, frozen: Collection[str]) -> str:
    if study.patient in frozen:
        return "frozen"
    if study.ruling.conflict:
        return "conflicts"
    if study.ruling.value is None:
        return "undecided"
    return "usable" if study.is_ready else "unready"


def sets_that_hold(session: Session, study: Study) -> list[str]:
    """Return the names of the test sets that a study is in."""
    query = select(TestSet.name).join(TestSet.members).where(TestSetMember.study_id == study.id)
    return list(session.scalars(query.order_by(TestSet.name)))
