"""Whose files may be deleted, whose may not and why, and what is written down when they are.

Each reason to keep a study is one condition of SQL with its sentence: what deletes and what explains ask the
same ones. The caller owns the transaction, and holds the clerks' lock (`db.intake.serialise`) to delete.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, exists, false, func, or_, select, update
from sqlalchemy.orm import Session

from db import audit
from db.commitments import ENDED
from db.models import (
    UNFINISHED_ANALYSES,
    Analysis,
    AnalysisState,
    AssociationRecord,
    AssociationStudy,
    CommitmentRequest,
    CommitmentStudy,
    Confirmation,
    ConfirmationState,
    Delivery,
    DeliveryState,
    Instance,
    Label,
    Output,
    Study,
    StudyState,
    TestSetMember,
)
from lungnode.settings import Settings

_ON_THE_WAY: Final = (DeliveryState.PENDING, DeliveryState.SENDING)
_ASKED: Final = (ConfirmationState.PENDING, ConfirmationState.ASKING, ConfirmationState.AWAITING)
_ENDED_BADLY: Final = (DeliveryState.REFUSED, DeliveryState.DEAD)
_CONFIRMED_BY: Final = ("commitment", "query")  # settings that insist on a way to confirm


@dataclass(frozen=True)
class Reason:
    """Why files stay: a condition on a study, and what an operator is told."""

    sentence: str
    holds: ColumnElement[bool]


@dataclass(frozen=True)
class Due:
    """A study whose files may go."""

    study_id: int
    study_instance_uid: str
    why: str


@dataclass(frozen=True)
class Kept:
    """A study whose files would go but for these reasons."""

    study_instance_uid: str
    why: str  # it would
    reasons: tuple[str, ...]


class Policy:
    """What the settings say of files at one moment."""

    def __init__(self, settings: Settings, now: datetime) -> None:
        self._limits, self._now = settings.retention, now
        self._confirming = [
            each.name for each in settings.destinations if getattr(each, "confirm", "") in _CONFIRMED_BY
        ]
        self._days = {
            rule.name: rule.retention_days for rule in settings.rules if rule.retention_days is not None
        }

    @cached_property
    def reasons(self) -> tuple[Reason, ...]:
        """Everything that keeps a study, whatever its age and the disk."""
        return (
            Reason("it is still being received", self._receiving),
            Reason("it is on hold", Study.hold != ""),
            Reason("its analysis is not finished", _has_analysis(Analysis.state.in_(UNFINISHED_ANALYSES))),
            Reason("its results are on their way", _has_delivery(Delivery.state.in_(_ON_THE_WAY))),
            Reason("a destination is asked whether it keeps its results", _is_being_confirmed()),
            Reason("a commitment request about it is not answered", _is_asked_about()),
            Reason("its analysis is quarantined", self._quarantined),
            Reason("a destination did not take its results", self._undelivered),
            Reason("a destination did not confirm its results", self._unconfirmed),
            Reason("it is labelled", exists().where(Label.study_id == Study.id)),
            Reason("it is in a frozen test set", exists().where(TestSetMember.study_id == Study.id)),
        )

    @property
    def kept(self) -> ColumnElement[bool]:
        """Whether any reason holds."""
        return or_(*(reason.holds for reason in self.reasons))

    @cached_property
    def aged(self) -> ColumnElement[bool]:
        """Whether a study is older than its rule or the node allows, or somebody asked to delete it."""
        clauses = [and_(Study.rule == name, self._older(days)) for name, days in self._days.items() if days]
        if self._limits.days:
            clauses.append(and_(Study.rule.not_in(self._days), self._older(self._limits.days)))
        return and_(~self._never, or_(Study.expired != "", *clauses))

    @cached_property
    def crowded_out(self) -> ColumnElement[bool]:
        """Whether a study may go when files take more than they may."""
        if self._limits.max_bytes is None:
            return false()
        return and_(~self._never, self._older(self._limits.least_days))

    def why(self, study: Study) -> str:
        """Say why the files of an aged study go."""
        if study.expired:
            return study.expired
        days = self._days.get(study.rule, self._limits.days)
        return f"retention: no new instance for {days} day{'' if days == 1 else 's'}"

    @property
    def _never(self) -> ColumnElement[bool]:
        return Study.rule.in_([name for name, days in self._days.items() if days == 0])

    def _older(self, days: int) -> ColumnElement[bool]:
        return Study.changed_at < self._now - timedelta(days=days)

    @property
    def _receiving(self) -> ColumnElement[bool]:
        carried = AssociationStudy.study_instance_uid == Study.study_instance_uid
        is_open = (AssociationRecord.closed_at.is_(None), AssociationRecord.lease_until > self._now)
        joined = AssociationRecord.id == AssociationStudy.association_id
        return or_(Study.state == StudyState.RECEIVING, exists().where(carried, joined, *is_open))

    @property
    def _quarantined(self) -> ColumnElement[bool]:
        given_up = self._given_up(Analysis.finished_at)
        return _has_analysis(Analysis.state == AnalysisState.QUARANTINED, _counts(), ~given_up)

    @property
    def _undelivered(self) -> ColumnElement[bool]:
        given_up = self._given_up(Delivery.finished_at)
        return _has_delivery(Delivery.state.in_(_ENDED_BADLY), _counts(), ~given_up)

    @property
    def _unconfirmed(self) -> ColumnElement[bool]:
        # Where the setting leaves open how a destination confirms, it may be one that cannot.
        of_delivery = (Confirmation.delivery_id == Delivery.id, Delivery.destination.in_(self._confirming))
        is_unconfirmed = Confirmation.state == ConfirmationState.UNCONFIRMED
        given_up = self._given_up(Confirmation.finished_at)
        return _has_delivery(*of_delivery, is_unconfirmed, _counts(), ~given_up)

    def _given_up(self, ended_at: Any) -> ColumnElement[bool]:
        if self._limits.unsettled_days is None:
            return false()
        limit = self._now - timedelta(days=self._limits.unsettled_days)
        return and_(ended_at.is_not(None), ended_at < limit)


def _has_analysis(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(Analysis.study_id == Study.id, *conditions)


def _has_delivery(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    return _has_analysis(Delivery.analysis_id == Analysis.id, *conditions)


def _is_being_confirmed() -> ColumnElement[bool]:
    # What a destination turns out not to keep is sent again.
    return _has_delivery(Confirmation.delivery_id == Delivery.id, Confirmation.state.in_(_ASKED))


def _is_asked_about() -> ColumnElement[bool]:
    about = CommitmentStudy.study_instance_uid == Study.study_instance_uid
    asked = (CommitmentRequest.id == CommitmentStudy.request_id, CommitmentRequest.state.not_in(ENDED))
    return exists().where(about, *asked)


def _counts() -> ColumnElement[bool]:
    """Whether an analysis is the last one, and was not withdrawn.

    An earlier report that never arrived is made good by a later one.
    """
    last = select(func.max(Analysis.revision)).where(Analysis.study_id == Study.id).correlate(Study)
    return and_(Analysis.revision == last.scalar_subquery(), Analysis.withdrawn == "")


def due_studies(session: Session, settings: Settings, now: datetime, limit: int) -> list[Due]:
    """Return whose files go now, the oldest first: those that are too old, then those that are too many."""
    policy = Policy(settings, now)
    may_go = (Study.files_deleted_at.is_(None), ~policy.kept)
    query = select(Study).where(*may_go, policy.aged).order_by(Study.changed_at, Study.id).limit(limit)
    due = [Due(each.id, each.study_instance_uid, policy.why(each)) for each in session.scalars(query)]
    excess = _excess(session, settings)
    if due or excess <= 0:
        return due  # what age deletes may make room enough
    query = select(Study).where(*may_go, policy.crowded_out).order_by(Study.changed_at, Study.id).limit(limit)
    why = f"retention: files took more than {settings.retention.max_bytes} bytes"
    for study in session.scalars(query):
        if excess <= 0:
            break
        due.append(Due(study.id, study.study_instance_uid, why))
        excess -= study_bytes(session, study.id)
    return due


def kept_studies(session: Session, settings: Settings, now: datetime, limit: int) -> list[Kept]:
    """Return whose files would go if nothing kept them, the oldest first, with the reasons."""
    policy = Policy(settings, now)
    is_full = _excess(session, settings) > 0
    due = or_(policy.aged, policy.crowded_out if is_full else false())
    query = (
        select(Study, policy.aged, *(reason.holds for reason in policy.reasons))
        .where(Study.files_deleted_at.is_(None), policy.kept, due)
        .order_by(Study.changed_at, Study.id)
        .limit(limit)
    )
    return [
        Kept(
            study.study_instance_uid,
            policy.why(study) if is_aged else "retention: files take too many bytes",
            _sentences(policy, flags),
        )
        for study, is_aged, *flags in session.execute(query)
    ]


def reasons_to_keep(session: Session, settings: Settings, study: Study, now: datetime) -> tuple[str, ...]:
    """Return what keeps one study's files, in sentences without a full stop."""
    policy = Policy(settings, now)
    query = (
        select(*(reason.holds for reason in policy.reasons)).select_from(Study).where(Study.id == study.id)
    )
    return _sentences(policy, session.execute(query).one())


def _sentences(policy: Policy, flags: Sequence[Any]) -> tuple[str, ...]:
    return tuple(reason.sentence for reason, holds in zip(policy.reasons, flags, strict=True) if holds)


def is_due(session: Session, settings: Settings, due: Due, now: datetime) -> bool:
    """Tell whether nothing has begun to keep a study since it was found due."""
    policy = Policy(settings, now)
    still = (Study.id == due.study_id, Study.files_deleted_at.is_(None), ~policy.kept)
    return bool(session.scalar(select(exists().where(*still, or_(policy.aged, policy.crowded_out)))))


def kept_bytes(session: Session) -> int:
    """Return what the files of all studies and results take."""
    received = select(func.sum(Instance.size)).where(Instance.deleted_at.is_(None))
    composed = select(func.sum(Output.size)).where(Output.deleted_at.is_(None))
    return int(session.scalar(received) or 0) + int(session.scalar(composed) or 0)


def study_bytes(session: Session, study_id: int) -> int:
    """Return what the files of one study and its results take."""
    own = (Instance.study_id == study_id, Instance.deleted_at.is_(None))
    received = select(func.sum(Instance.size)).where(*own)
    of_study = select(Analysis.id).where(Analysis.study_id == study_id)
    composed = select(func.sum(Output.size)).where(
        Output.analysis_id.in_(of_study), Output.deleted_at.is_(None)
    )
    return int(session.scalar(received) or 0) + int(session.scalar(composed) or 0)


def _excess(session: Session, settings: Settings) -> int:
    limit = settings.retention.max_bytes
    return 0 if limit is None else kept_bytes(session) - limit


def files_of(session: Session, study_id: int) -> tuple[set[str], set[str]]:
    """Return the paths of a study's files below the archive and below the outputs, those that are there."""
    own = (Instance.study_id == study_id, Instance.deleted_at.is_(None))
    received = set(session.scalars(select(Instance.path).where(*own)))
    composed = select(Output.path).join(Analysis, Output.analysis_id == Analysis.id)
    there = composed.where(Analysis.study_id == study_id, Output.deleted_at.is_(None))
    return received, set(session.scalars(there))


def mark_deleted(session: Session, due: Due, now: datetime) -> None:
    """Write down that a study's files are deleted; everything else that is known of it stays."""
    size = study_bytes(session, due.study_id)
    of_study = select(Analysis.id).where(Analysis.study_id == due.study_id)
    own = ((Instance, Instance.study_id == due.study_id), (Output, Output.analysis_id.in_(of_study)))
    for table, mine in own:
        statement = update(table).where(mine, table.deleted_at.is_(None)).values(deleted_at=now)
        session.execute(statement.execution_options(synchronize_session=False))
    study = session.get_one(Study, due.study_id)
    study.files_deleted_at, study.files_deleted_by = now, due.why
    audit.record(session, "files deleted", due.study_instance_uid, now, why=due.why, bytes=size)
