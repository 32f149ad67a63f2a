"""An analysis from its row to its results: claim, read, analyse, compose, keep, deliver."""

import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Event, Lock
from typing import Any, Final

from sqlalchemy import ColumnElement, update
from sqlalchemy.orm import Session

from db import audit
from db.analyses import claim_analysis
from db.models import Analysis, AnalysisState
from db.registry import model_in_use
from db.session import transaction
from db.work import Claim, Retry, fail, finish, give_back
from lungnode.audit.events import Happening, Process, program
from lungnode.audit.message import Participant
from lungnode.loading import Images, read_grays, read_images
from lungnode.model_folder import ModelInfo
from lungnode.rules import destinations_of
from lungnode.runtime import Model, open_model
from worker.analysis import Seen, analyse
from worker.conduct import Conduct, Stopwatch
from worker.hold import Node, Stopped, kept
from worker.making import compose_results, failed_finding, gray_of
from worker.models import InTurn, Loader, WarmModel
from worker.result import StudyFinding, Verdict
from worker.results import Staged, add_deliveries, commit, discard, stage
from worker.room import Wait, check_room, why_wait
from worker.shadow import Analysed, Shadow
from worker.statistics import input_statistics
from worker.study import Revision, read_revision

_LOG = logging.getLogger(__name__)
_BACKOFF_S: Final = 5.0
_BACKOFF_MAX_S: Final = 300.0
_ENDS: Final = {
    Verdict.NOT_APPLICABLE: AnalysisState.NOT_APPLICABLE,
    Verdict.ERROR: AnalysisState.QUARANTINED,
}


class Analyst:
    """The model in use, warm, and the rows it works on; each analysis has one model from start to end."""

    def __init__(self, node: Node, load: Loader = open_model) -> None:
        self._node = node
        self._active = WarmModel(node, load, "active")
        self._shadow = Shadow(node, load)
        self._analysed: Analysed | None = None  # what the shadow has not judged yet
        # Uploads are classified by another thread, with the same model.
        self._exchanging, self._predicting = Lock(), Lock()

    def warm_up(self) -> Model:
        """Load the model in use if it is not yet, and return it.

        Raises:
            UnavailableError: It cannot be used and none was loaded before, or the database is away.
        """
        with transaction(self._node.engine) as session:
            place = model_in_use(session, self._node.settings)
        with self._exchanging:
            return InTurn(self._active.at(place), self._predicting)

    def judge_in_shadow(self) -> None:
        """Let the model in the shadow, if any, judge the study that was analysed last."""
        analysed, self._analysed = self._analysed, None
        if analysed is not None:
            self._shadow.judge(analysed)

    def analyse_most_urgent(self) -> list[int]:
        """Analyse the most urgent study that is due, if any; return the deliveries that can start.

        A message only says that there is work: with a backlog, the study it was sent for may have to wait.

        Raises:
            UnavailableError: The database is away, no model can be used, or the disk is nearly full.
        """
        node, lease_s = self._node, self._node.settings.analysis.lease_s
        check_room(node.settings)
        model = self.warm_up()
        with transaction(node.engine) as session:
            held = claim_analysis(session, node.clock(), lease_s)
            if held is None:
                return []
            revision = read_revision(session, held.row_id)
            if revision.withdrawn:
                _pass_over(session, held, revision, node.clock())
                return []
        try:
            with kept(node, held, lease_s) as lost:
                return self._analyse(held, revision, model, lost)
        except Stopped:
            with transaction(node.engine) as session:
                give_back(session, held, node.clock())
            _LOG.info("analysis %s of %s put back", held.row_id, revision.study_instance_uid)
        except Exception as error:  # noqa: BLE001 - no study may stop the worker; its row keeps the traceback
            wait = why_wait(error, self._node.archive)
            if wait:
                self._put_off(held, revision, wait)
            else:
                self._fail(held, revision, error)
        return []

    def _analyse(self, held: Claim, revision: Revision, model: Model, lost: Event) -> list[int]:
        waited_s = (self._node.clock() - revision.created_at).total_seconds()
        watch, began = Stopwatch(time.monotonic, {"wait": waited_s}), time.monotonic()
        with watch.phase("read"):
            images = read_images(self._node.archive.fetch(revision.files))
        seen: list[Seen] = []
        finding, seconds = self._find(revision, images, model, lost, seen.append)
        watch.seconds |= seconds
        with watch.phase("compose"):
            settings, gray = self._node.settings, gray_of(seen)
            composed = compose_results(finding, revision, images, settings, model, gray)
        with watch.phase("write"):
            staged = stage(self._node.outputs, revision, composed, finding.slices)
        try:
            values = self._values(finding, model.info) | {
                "runtime": model.runtime,
                "details": _details(finding, images),
                "input_statistics": input_statistics(seen[-1]) if seen else {},
                "phases": {name: round(value, 3) for name, value in watch.seconds.items()},
            }
            first = self._keep(held, revision, finding, values, staged)
        finally:
            discard(staged)
        if first is not None and seen:
            inputs = replace(seen[-1], grays=())
            self._analysed = Analysed(held.row_id, images, inputs, model.info.digest, began)
        return first or []

    def _find(
        self,
        revision: Revision,
        images: Images,
        model: Model,
        lost: Event,
        keep: Callable[[Seen], object],
    ) -> tuple[StudyFinding, dict[str, float]]:
        if revision.attempts > self._node.settings.analysis.max_attempts:
            return failed_finding(revision, images, model.info.threshold), {}

        def proceed(_phase: str, _done: int, _total: int) -> None:
            self._node.give_way()
            if lost.is_set() or self._node.stopping():
                raise Stopped

        conduct = Conduct(time.monotonic, proceed, self._node.settings.analysis.at_most)
        return analyse(images.headers, read_grays, model, conduct, keep=keep)

    def _keep(
        self, held: Claim, revision: Revision, finding: StudyFinding, values: dict[str, Any], staged: Staged
    ) -> list[int] | None:
        """Commit the results and return the deliveries that can start; None when the row was lost."""
        settings, now = self._node.settings, self._node.clock()
        with transaction(self._node.engine) as session:
            if not commit(session, held, values, staged, self._node.outputs):
                return None
            _make_next_revision_due(session, held.row_id)
            destinations = destinations_of(settings, revision.rule)
            first = []
            if not session.get_one(Analysis, held.row_id).withdrawn:  # it was not when this run began
                first = add_deliveries(session, revision, destinations, finding.verdict, now)
            told = {"analysis": held.row_id, "revision": revision.revision, "model": values["model"]}
            audit.note(session, Happening("study analysed", revision.study_instance_uid, now, _us()), **told)
        _LOG.info("analysis %s of %s: %s", held.row_id, revision.study_instance_uid, finding.verdict)
        return first

    def _values(self, finding: StudyFinding, info: ModelInfo) -> dict[str, Any]:
        return {
            "state": _ENDS.get(finding.verdict, AnalysisState.DONE),
            "finished_at": self._node.clock(),
            "model": f"{info.name} {info.version}",
            "model_digest": info.digest,
            "verdict": finding.verdict,
            "probability": finding.probability,
            "threshold": finding.threshold,
            "reason": finding.reason,
        }

    def _put_off(self, held: Claim, revision: Revision, wait: Wait) -> None:
        """Let a study wait that found the disk full or the store away, without an attempt spent."""
        later = self._node.clock() + timedelta(seconds=wait.seconds)
        with transaction(self._node.engine) as session:
            give_back(session, held, later, {"reason": wait.reason})
        _LOG.error("analysis %s of %s waits: %s", held.row_id, revision.study_instance_uid, wait.reason)

    def _fail(self, held: Claim, revision: Revision, error: Exception) -> None:
        # The message may quote the data set, so it goes into the row and not into the log.
        reason = f"Attempt {revision.attempts} failed: {type(error).__name__}, {error}"
        values = {"reason": reason, "error": "".join(traceback.format_exception(error))}
        retry = Retry(self._node.settings.analysis.max_attempts, _BACKOFF_S, _BACKOFF_MAX_S)
        with transaction(self._node.engine) as session:
            state = fail(session, held, values, retry, self._node.clock())
        _LOG.error(
            "analysis %s of %s: attempt %d failed with %s; now %s",
            held.row_id,
            revision.study_instance_uid,
            revision.attempts,
            type(error).__name__,
            state or "taken back",
        )


def _pass_over(session: Session, held: Claim, revision: Revision, now: datetime) -> None:
    """End an analysis whose result would not count; the next revision has what is right."""
    ended = {"state": AnalysisState.NOT_APPLICABLE, "verdict": Verdict.NOT_APPLICABLE, "finished_at": now}
    finish(session, held, ended | {"reason": revision.withdrawn})
    _make_next_revision_due(session, held.row_id)
    _LOG.info("analysis %s of %s passed over: withdrawn", held.row_id, revision.study_instance_uid)


def _us() -> Participant:
    return program(Process("worker --queue analysis"))


def _details(finding: StudyFinding, images: Images) -> dict[str, Any]:
    slices = [
        {"sop_instance_uid": s.sop_instance_uid, "frame": s.frame, "probability": s.probability}
        for s in finding.slices
    ]
    return {
        "series_instance_uid": finding.series_instance_uid,
        "choice": list(finding.choice),
        "unreadable": list(images.unreadable),
        "slices": slices,
    }


def _make_next_revision_due(session: Session, row_id: int) -> None:
    """Let the clerk's next sweep wake the revisions that waited for this one."""
    row = session.get_one(Analysis, row_id)
    later: tuple[ColumnElement[bool], ...] = (
        Analysis.study_id == row.study_id,
        Analysis.revision > row.revision,
    )
    statement = update(Analysis).where(*later).values(woken_at=None)
    session.execute(statement.execution_options(synchronize_session=False))
