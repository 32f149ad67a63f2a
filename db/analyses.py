"""Analyses in their order: sources take turns, so one that sends very much holds up nobody else.

Each analysis has a turn within its priority. Those of one source come in a row of turns, one each, and
the first of a source that had none waiting comes in the earliest turn that waits. So a claim follows an
index, however many there are.

Source: start-time fair queueing (Goyal, Vin, Cheng: SIGCOMM 1996), with all analyses of the same length.
"""

from datetime import datetime
from functools import cache

from sqlalchemy import Update, exists, func, select
from sqlalchemy.orm import Session, aliased

from db.models import UNFINISHED_ANALYSES, Analysis, AnalysisState, Study
from db.work import ANALYSES, Claim, claim_next, claiming


def queue_analysis(session: Session, study: Study, priority: int, now: datetime) -> Analysis:
    """Make the analysis of the study's last revision, due at once; its turn is behind those of its source."""
    source = study.calling_ae_title
    analysis = Analysis(
        study_id=study.id,
        revision=study.revision,
        priority=priority,
        source=source,
        turn=_next_turn(session, source, priority),
        completeness=study.completeness,
        created_at=now,
        due_at=now,
    )
    session.add(analysis)
    session.flush()
    return analysis


def _next_turn(session: Session, source: str, priority: int) -> int:
    # What failed keeps a turn that has passed: it tells nothing of those that wait.
    queued = (Analysis.state == AnalysisState.QUEUED, Analysis.priority == priority)
    earliest = session.scalar(select(func.min(Analysis.turn)).where(*queued))
    last = session.scalar(select(func.max(Analysis.turn)).where(*queued, Analysis.source == source))
    return max(earliest or 0, 0 if last is None else last + 1)


def claim_analysis(session: Session, now: datetime, lease_s: float) -> Claim | None:
    """Claim the most urgent analysis; None when there is none.

    One waits while an earlier revision is not finished: its report names the one before.
    """
    return claim_next(session, ANALYSES, _claiming(), now, lease_s)


@cache
def _claiming() -> Update:
    earlier = aliased(Analysis)
    is_behind = exists().where(
        earlier.study_id == Analysis.study_id,
        earlier.revision < Analysis.revision,
        earlier.state.in_(UNFINISHED_ANALYSES),
    )
    return claiming(ANALYSES, ~is_behind)


def count_waiting(session: Session, most: int) -> int:
    """Count the analyses that wait, no further than to `most`."""
    waiting = select(Analysis.id).where(Analysis.state.in_(ANALYSES.waiting)).limit(most)
    return session.scalar(select(func.count()).select_from(waiting.subquery())) or 0
