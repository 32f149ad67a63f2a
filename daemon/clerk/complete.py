"""Completes studies: judges those that are receiving, closes their revision, queues their analysis."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from daemon.clerk.ask import Case, Inquiries, Questions
from daemon.clerk.completeness import Evidence, Judgement, Quiet, Slice, evidence_of, judge
from daemon.clerk.plan import ANALYSED_CLASSES
from db import inquiries, intake
from db.analyses import queue_analysis
from db.intake import Receiving
from db.models import Study, StudyState
from db.session import transaction
from lungnode.rules import rule_named
from lungnode.settings import Settings

_log = logging.getLogger(__name__)


class Completer:
    """Judges receiving studies; remembers what their instances said until there are new ones."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._questions = Questions(settings)
        # By study: newest instance and how many count, and what they said.
        self._evidence: dict[int, tuple[tuple[int, int], Evidence]] = {}

    def complete_studies(self, now: datetime) -> list[int]:
        """Complete what is complete; returns the identifiers of the analyses that were queued.

        Raises:
            UnavailableError: The database is away.
        """
        queued = []
        with transaction(self._engine) as session:
            intake.serialise(session)
            receiving = intake.receiving_studies(session)
            open_uids = intake.open_study_uids(session, now) if receiving else set()
            asked = self._questions.asked(session) if receiving else {}
            for each in receiving:
                if each.study.study_instance_uid in open_uids:
                    self._questions.postpone(each.study, asked, now)
                    continue
                judgement = self._judge(session, each, asked, now)
                if judgement.is_complete:
                    queued += self._complete(session, each.study, judgement.note, now)
        self._forget({each.study.id for each in receiving})
        return queued

    def _judge(self, session: Session, received: Receiving, asked: Inquiries, now: datetime) -> Judgement:
        """Judge a study that nobody sends at the moment."""
        study = received.study
        rule = rule_named(self._settings, study.rule)
        normal = timedelta(seconds=rule.quiet_s or self._settings.clerk.quiet_s)
        lacking = max(normal, timedelta(seconds=self._settings.clerk.gap_quiet_s))
        told, since = self._questions.consult(session, Case(study, received.newest, normal), asked, now)
        evidence = replace(self._read(session, received), told=told, asking_since=since)
        return judge(
            evidence, is_open=False, changed_at=study.changed_at, now=now, quiet=Quiet(normal, lacking)
        )

    def _read(self, session: Session, received: Receiving) -> Evidence:
        """Return what the study's instances say."""
        study_id, state = received.study.id, (received.newest, received.held)
        seen, evidence = self._evidence.get(study_id, (None, Evidence()))
        if seen != state:
            evidence = replace(
                evidence_of(_slices(intake.geometry_rows(session, study_id))),
                is_multi_frame=intake.has_multi_frame(session, study_id),
            )
            self._evidence[study_id] = (state, evidence)
        return evidence

    def _complete(self, session: Session, study: Study, note: str, now: datetime) -> list[int]:
        rule = rule_named(self._settings, study.rule)
        inquiries.close(session, study, now)
        slices = intake.slices_of(session, study.id, ANALYSED_CLASSES)
        if study.revision and not slices.is_new and (intake.is_analysed(session, study) or not rule.analyse):
            intake.close_study(session, study)  # what came was here before, and its result stands
            return []
        revision = intake.complete_study(session, study, _noted(note, slices))
        _log.info("study %s revision %d is complete (%s)", study.study_instance_uid, revision, note)
        if slices.deleted:
            _log.warning("study %s is not analysed again: %s", study.study_instance_uid, study.completeness)
        if slices.withdrawn and not slices.held:
            study.state = StudyState.WITHDRAWN
        if not rule.analyse or slices.deleted or study.state == StudyState.WITHDRAWN:
            return []
        return [queue_analysis(session, study, rule.priority, now).id]

    def _forget(self, receiving: set[int]) -> None:
        self._evidence = {key: value for key, value in self._evidence.items() if key in receiving}


def _noted(note: str, slices: intake.Slices) -> str:
    """Add to what was known of completeness what stands in the way of an analysis."""
    if slices.deleted:
        return f"{note}; not analysed: the files of {slices.deleted} of {slices.held} slices were deleted"
    if slices.withdrawn:
        return f"{note}; {slices.withdrawn} slice{'' if slices.withdrawn == 1 else 's'} withdrawn"
    return note


def _slices(rows: Iterable[tuple[Any, ...]]) -> Iterator[Slice]:
    for series_uid, acquisition, images, position, orientation in rows:
        yield Slice(
            series_uid, acquisition, images, tuple(position), tuple(orientation) if orientation else None
        )
