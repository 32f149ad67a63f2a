"""Long work that somebody asked for in the web; the caller owns the transaction."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from db.models import Job, JobState
from lungnode.errors import UnusableError

LEASE: Final = timedelta(seconds=60)


def begin(session: Session, kind: str, subject: str, account: str, now: datetime) -> Job:
    """Note that a job begins; one of a kind at a time.

    Raises:
        UnusableError: Another one of its kind is at work.
    """
    end_silent(session, now)
    running = select(Job).where(Job.kind == kind, Job.state == JobState.RUNNING).limit(1)
    other = session.scalar(running.with_for_update())
    if other is not None:
        raise UnusableError(f"Job {other.id}, a {kind} for {other.account}, is at work; wait for it.")
    job = Job(kind=kind, subject=subject, account=account, lease_until=now + LEASE, created_at=now)
    session.add(job)
    session.flush()
    return job


def last_jobs(session: Session, kind: str, limit: int) -> Sequence[Job]:
    """Return the last jobs of a kind, the newest first."""
    return session.scalars(select(Job).where(Job.kind == kind).order_by(Job.id.desc()).limit(limit)).all()


def renew(session: Session, job_id: int, now: datetime) -> None:
    """Say that a job is still at work."""
    session.execute(update(Job).where(Job.id == job_id).values(lease_until=now + LEASE))


def finish(session: Session, job_id: int, result: dict[str, Any], reason: str, now: datetime) -> None:
    """Note how a job ended; a reason says why it failed."""
    state = JobState.FAILED if reason else JobState.DONE
    values = {"state": state, "result": result, "reason": reason, "finished_at": now}
    session.execute(update(Job).where(Job.id == job_id).values(**values))


def end_silent(session: Session, now: datetime) -> None:
    """Note that jobs whose process fell silent failed."""
    silent = (Job.state == JobState.RUNNING, Job.lease_until < now)
    reason = "The web process that ran it ended."
    session.execute(
        update(Job).where(*silent).values(state=JobState.FAILED, reason=reason, finished_at=now),
        execution_options={"synchronize_session": False},
    )
