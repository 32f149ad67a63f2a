"""Forgetting a study: all rows that belong to it, in one transaction; the caller owns it.

Its files leave their places in the same transaction (`lungnode.trash`). What cannot be in it, caches and what
else may hold traces, is done afterwards: until then an `Erasure` says that something is left to do.
"""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Table, func, or_, select
from sqlalchemy.orm import Session

from db import audit, intake
from db.models import (
    Analysis,
    AnalysisState,
    Base,
    CommitmentRequest,
    CommitmentStudy,
    Delivery,
    DeliveryState,
    Erasure,
    Instance,
    Label,
    Study,
)
from db.test_sets import sets_that_hold
from lungnode.errors import UnusableError

UID_COLUMN: Final = "study_instance_uid"  # of tables that name a study without referring to its row
# What may outlive the study: what is left to do, and the trail, which says that it was deleted.
KEPT: Final = frozenset({"erasures", "audit_events"})


def delete_study(
    session: Session, study: Study, now: datetime, *, force: bool = False, trained_in: Collection[str] = ()
) -> None:
    """Delete every row of a study, its labels too; its files and other traces are the caller's.

    Args:
        session: In a transaction of the caller's.
        study: What to delete.
        now: The time of the audit event.
        force: Delete it from frozen test sets as well: nothing can be measured with them any more.
        trained_in: Names of runs that were trained with it; the audit event keeps them.

    Raises:
        UnusableError: The study is on hold, being received, analysed or delivered, or in a frozen test set.
    """
    uid = study.study_instance_uid
    intake.serialise(session)
    frozen_in = sets_that_hold(session, study)
    if frozen_in and not force:
        raise UnusableError(
            f"Study {uid} is in the frozen test set {', '.join(frozen_in)}, which is worthless without it; "
            "--force deletes it all the same."
        )
    if study.hold:
        raise UnusableError(f"Study {uid} is on hold ({study.hold}); release it first.")
    _refuse_while_at_work(session, study, now)
    labels = session.scalar(select(func.count()).where(Label.study_id == study.id))
    # What the labels said is not kept: whoever deletes a study may have to forget it.
    audit.record(
        session, "study deleted", uid, now, labels=labels, test_sets=frozen_in, trained_in=sorted(trained_in)
    )
    session.flush()
    _delete_rows(session, study)


def begin_erasure(
    session: Session, study_instance_uid: str, contents: Collection[str], now: datetime
) -> None:
    """Note that a study's traces are still to be removed; `contents` are digests of its cached slices."""
    begun = pending_erasure(session, study_instance_uid)
    if begun is None:
        begun = Erasure(study_instance_uid=study_instance_uid, at=now, contents=[])
        session.add(begun)
    begun.contents = sorted({*begun.contents, *contents})


def pending_erasure(session: Session, study_instance_uid: str) -> Erasure | None:
    """Return what is left to do of a study that was deleted."""
    return session.scalar(select(Erasure).where(Erasure.study_instance_uid == study_instance_uid))


def pending_erasures(session: Session) -> list[Erasure]:
    """Return everything that is left to do, the oldest first."""
    return list(session.scalars(select(Erasure).order_by(Erasure.id)))


def _refuse_while_at_work(session: Session, study: Study, now: datetime) -> None:
    uid = study.study_instance_uid
    if uid in intake.open_study_uids(session, now):
        raise UnusableError(f"Study {uid} is being received; wait until its association has ended.")
    analyses = select(Analysis.id).where(Analysis.study_id == study.id)
    busy = session.scalar(analyses.where(Analysis.state == AnalysisState.RUNNING).limit(1))
    sending = select(Delivery.id).where(
        Delivery.analysis_id.in_(analyses), Delivery.state == DeliveryState.SENDING
    )
    if busy is not None or session.scalar(sending.limit(1)) is not None:
        raise UnusableError(f"Study {uid} is being analysed or delivered; try again when that is over.")


def _delete_rows(session: Session, study: Study) -> None:
    _forget_commitments(session, study)
    session.flush()
    for table, mine in reversed(list(belonging(study))):
        session.execute(table.delete().where(mine))
    session.expunge_all()


def belonging(study: Study) -> Iterator[tuple[Table, ColumnElement[bool]]]:
    """Yield each table with the condition for its rows of a study, those that others refer to first.

    Found by following foreign keys, so that a table that is added later is not forgotten.
    """
    known: dict[Table, ColumnElement[bool]] = {}
    for table in Base.metadata.sorted_tables:
        if table.name in KEPT:
            continue
        clauses: list[ColumnElement[bool]] = [
            key.parent.in_(select(key.column).where(known[key.column.table]))
            for key in table.foreign_keys
            if key.column.table in known
        ]
        if UID_COLUMN in table.c:
            clauses.append(table.c[UID_COLUMN] == study.study_instance_uid)
        if clauses:
            known[table] = or_(*clauses)
            yield table, known[table]


def _forget_commitments(session: Session, study: Study) -> None:
    """Take a study's instances out of requests of scanners; a request about nothing else goes."""
    about = select(CommitmentStudy.request_id).where(
        CommitmentStudy.study_instance_uid == study.study_instance_uid
    )
    mine = set(session.scalars(select(Instance.sop_instance_uid).where(Instance.study_id == study.id)))
    for request in session.scalars(select(CommitmentRequest).where(CommitmentRequest.id.in_(about))):
        request.instances = [each for each in request.instances if each["sop_instance_uid"] not in mine]
        if not request.instances:
            session.query(CommitmentStudy).filter_by(request_id=request.id).delete()
            session.delete(request)
