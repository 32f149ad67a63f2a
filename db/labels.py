"""Labels of studies: what readers and tests said, side by side; the caller owns the transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session, contains_eager

from db import audit
from db.label_policy import Opinion, Ruling, policy_named
from db.models import Analysis, AnalysisState, Instance, Label, LabelSource, LabelValue, Study, StudyState

CHUNK: Final = 500  # values in one IN clause


class Written(StrEnum):
    """What became of a label that was given."""

    ADDED = "added"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class LabelledStudy:
    """A study with everything that was said of it, and what a policy makes of it."""

    study_id: int
    study_instance_uid: str
    patient: str  # see patient_of
    opinions: tuple[Opinion, ...]
    ruling: Ruling
    is_ready: bool  # complete, its files there, and not found to be something else than a chest CT

    @property
    def symptomatic(self) -> bool | None:
        """Tell whether the patient had symptoms; None where nobody says, or the labels disagree."""
        said = {opinion.symptomatic for opinion in self.opinions} - {None}
        return said.pop() if len(said) == 1 else None

    @property
    def first_rt_pcr(self) -> LabelValue | None:
        """Return the first dated RT-PCR: what the paper's table 4 compares CT with."""
        tests = [opinion for opinion in self.opinions if opinion.source == LabelSource.RT_PCR]
        return min(tests, key=lambda test: test.labelled_on or "9").value if tests else None


def patient_of(study: Study) -> str:
    """Return what stands for a study's patient: the Patient ID; where it is empty the study stands alone."""
    return study.patient_id.strip(" ") or f"study {study.study_instance_uid}"


def opinion_of(label: Label) -> Opinion:
    """Return what a row says."""
    return Opinion(
        LabelValue(label.value), LabelSource(label.source), label.reader, label.labelled_on, label.symptomatic
    )


def labelled_studies(session: Session, policy: str) -> list[LabelledStudy]:
    """Return every study that has a label, with the policy's ruling, in an order that does not change.

    Raises:
        UnusableError: There is no such policy.
    """
    decide = policy_named(policy)
    query = select(Study).join(Study.labels).options(contains_eager(Study.labels))
    studies = session.scalars(query.order_by(Study.study_instance_uid, Label.id)).unique()
    refused = _unusable(session)
    found = []
    for study in studies:
        opinions = tuple(opinion_of(label) for label in study.labels)
        ready = study.state == StudyState.COMPLETE and study.id not in refused
        uid, patient = study.study_instance_uid, patient_of(study)
        found.append(LabelledStudy(study.id, uid, patient, opinions, decide(opinions), ready))
    return found


def every_label(session: Session) -> list[tuple[str, Opinion]]:
    """Return every label with its Study Instance UID, in an order that does not change."""
    order = (Study.study_instance_uid, Label.source, Label.reader, Label.labelled_on)
    query = select(Study.study_instance_uid, Label).join(Study, Label.study_id == Study.id).order_by(*order)
    return [(uid, opinion_of(label)) for uid, label in session.execute(query)]


def unlabelled_studies(session: Session, limit: int) -> list[Study]:
    """Return complete studies without any label that a label would make usable, the newest first."""
    query = (
        select(Study)
        .where(
            Study.state == StudyState.COMPLETE,
            ~Study.labels.any(),
            Study.id.not_in(_unusable_query()),
        )
        .order_by(Study.changed_at.desc(), Study.id.desc())
    )
    return list(session.scalars(query.limit(limit)))


def count_unlabelled(session: Session) -> int:
    """Return how many studies `unlabelled_studies` could list."""
    counted = select(func.count(Study.id)).where(
        Study.state == StudyState.COMPLETE,
        ~Study.labels.any(),
        Study.id.not_in(_unusable_query()),
    )
    return session.scalar(counted) or 0


def _unusable(session: Session) -> set[int]:
    return set(session.scalars(_unusable_query()))


def _unusable_query() -> Any:
    """Select the studies whose last analysis found no chest CT, or whose files are deleted."""
    last = select(func.max(Analysis.id)).group_by(Analysis.study_id)
    no_chest = select(Analysis.study_id).where(
        Analysis.id.in_(last), Analysis.state == AnalysisState.NOT_APPLICABLE
    )
    return no_chest.union(select(Instance.study_id).where(Instance.deleted_at.is_not(None)))


def set_label(session: Session, study: Study, opinion: Opinion, now: datetime) -> Written:
    """Add a label; one of the same study, source, reader and date is updated."""
    lock = select(Study.id).where(Study.id == study.id).with_for_update()
    session.scalar(lock)  # whoever labels the same study at once comes after us
    row = session.scalar(_same(study.id, opinion))
    before = row.value if row else None
    written = write(session, study.id, row, opinion, now)
    audit.record(session, "label set", study.study_instance_uid, now, before=before, **described(opinion))
    return written


def write(session: Session, study_id: int, row: Label | None, opinion: Opinion, now: datetime) -> Written:
    """Write a label over the row that has its key, or as a new one; without an audit event.

    Symptoms that are not told leave those that are known.
    """
    if row is None:
        told = {"value": opinion.value, "source": opinion.source, "reader": opinion.reader}
        dated = {"labelled_on": opinion.labelled_on, "symptomatic": opinion.symptomatic}
        session.add(Label(study_id=study_id, created_at=now, **told, **dated))
        return Written.ADDED
    symptomatic = row.symptomatic if opinion.symptomatic is None else opinion.symptomatic
    if (row.value, row.symptomatic) == (opinion.value, symptomatic):
        return Written.UNCHANGED
    row.value, row.symptomatic = opinion.value, symptomatic
    return Written.UPDATED


def delete_labels(session: Session, study: Study, labels: Sequence[Label], now: datetime) -> None:
    """Delete labels of a study; the audit event keeps what they said."""
    for label in labels:
        session.delete(label)
    said = [described(opinion_of(label)) for label in labels]
    audit.record(session, "label deleted", study.study_instance_uid, now, labels=said)


def described(opinion: Opinion) -> dict[str, Any]:
    """Return a label as JSON, in the words of the CSV file."""
    return {
        "label": opinion.value,
        "source": opinion.source,
        "reader": opinion.reader,
        "date": opinion.labelled_on,
        "symptomatic": opinion.symptomatic,
    }


def _same(study_id: int, opinion: Opinion) -> Any:
    key = (Label.source == opinion.source, Label.reader == opinion.reader)
    return select(Label).where(
        and_(Label.study_id == study_id, *key, Label.labelled_on == opinion.labelled_on)
    )


def chunks(values: Iterable[Any]) -> list[list[Any]]:
    """Split distinct values, in order, into lists that fit one IN clause."""
    distinct = sorted(set(values))
    return [distinct[start : start + CHUNK] for start in range(0, len(distinct), CHUNK)]
