"""Asks one source one question, and writes down what became of it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any, Final

from sqlalchemy import Engine

from daemon.clerk.ask import source_named
from daemon.pull.audited import note_query
from daemon.pull.count import Counted, Held, count_images
from daemon.pull.study import fetch_missing
from db import inquiries
from db.models import InquiryKind, InquiryState, Study
from db.session import transaction
from db.work import Claim, Retry, fail, finish
from lungnode.audit.events import Process, program
from lungnode.errors import UnavailableError, UnusableError
from lungnode.scu.association import describe
from lungnode.scu.find import StudyMatch, querying
from lungnode.settings import Peer, Settings

_BACKOFF_S: Final = 5.0
_BACKOFF_MAX_S: Final = 60.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """A question that was claimed."""

    held: Claim
    kind: InquiryKind
    peer: str
    study_id: int
    study_instance_uid: str


@dataclass(frozen=True)
class _Known:
    """What we have of the study when the question is asked."""

    study: StudyMatch
    newest: int
    held: Held


class Asker:
    """Asks from any number of threads; each trouble of a peer is logged once until it answers again."""

    def __init__(self, engine: Engine, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._settings = settings
        self._clock = clock
        self._lock = Lock()
        self._in_trouble: set[str] = set()  # names of peers

    def ask(self, task: Task) -> None:
        """Ask, and record answer, refusal or failure; where that is not possible, the lease runs out."""
        try:
            self._ask(task)
        except UnavailableError as error:
            _log.error("an answer is not recorded: %s", error)

    def _ask(self, task: Task) -> None:
        known = self._look(task)
        if not known.held.images:
            self._finish(task, known, {"state": InquiryState.REFUSED, "reason": "No CT image has come."})
            return
        try:
            peer = source_named(self._settings, task.peer)
            values = self._count(known, peer) if task.kind is InquiryKind.COUNT else self._fetch(known, peer)
        except UnusableError as error:
            self._tell(task, str(error))
            self._finish(task, known, {"state": InquiryState.REFUSED, "reason": str(error)})
        except UnavailableError as error:
            self._tell(task, str(error))
            self._fail(task, known, str(error))
        except Exception as error:  # noqa: BLE001 - answers are untrusted bytes; its words may be a patient's
            self._tell(task, f"The answer of peer {task.peer} cannot be used ({type(error).__name__}).")
            self._fail(task, known, f"{type(error).__name__}, {error}")
        else:
            self._tell(task, "")
            self._finish(task, known, values, asked=peer)

    def _look(self, task: Task) -> _Known:
        with transaction(self._engine) as session:
            study = session.get_one(Study, task.study_id)
            match = StudyMatch(study.study_instance_uid, study.patient_id)
            newest = inquiries.newest_instance(session, study.id)
            held = Held(
                inquiries.held_instances(session, study.id), inquiries.own_instance_uids(session, study.id)
            )
        return _Known(match, newest, held)

    def _count(self, known: _Known, peer: Peer) -> dict[str, Any]:
        counted = self._counted(known, peer)
        return {
            "state": InquiryState.ANSWERED,
            "present": counted.present,
            "expected": counted.expected,
            "reason": "",
        }

    def _fetch(self, known: _Known, peer: Peer) -> dict[str, Any]:
        missing = self._counted(known, peer).missing
        fetched = fetch_missing(peer, self._settings, known.study, missing)
        count = fetched.count
        _log.info(
            "study %s: %d of %d missing images fetched from %s",
            known.study.study_instance_uid,
            count.completed + count.warning,
            sum(each.count for each in missing),
            peer.name,
        )
        if count.failed:
            raise UnavailableError(f"{describe(peer)} could not send {count.failed} of the missing images.")
        details = {"completed": count.completed, "failed": count.failed, "warning": count.warning}
        return {"state": InquiryState.ANSWERED, "details": details, "reason": ""}

    def _counted(self, known: _Known, peer: Peer) -> Counted:
        with querying(peer, peer.calling_ae_title or self._settings.receiver.ae_title) as query:
            return count_images(query, known.study, known.held, begun_only=peer.series == "begun")

    def _finish(
        self, task: Task, known: _Known, values: dict[str, Any], *, asked: Peer | None = None
    ) -> None:
        now = self._clock()
        with transaction(self._engine) as session:
            done = finish(session, task.held, values | {"newest": known.newest, "finished_at": now})
            if done and asked is not None:
                keys = {"StudyInstanceUID": task.study_instance_uid}
                note_query(session, program(Process("clerk")), asked, keys, now)

    def _fail(self, task: Task, known: _Known, reason: str) -> None:
        retry = Retry(self._settings.clerk.ask_attempts, _BACKOFF_S, _BACKOFF_MAX_S)
        values = {"reason": reason, "newest": known.newest}
        with transaction(self._engine) as session:
            fail(session, task.held, values, retry, self._clock())

    def _tell(self, task: Task, trouble: str) -> None:
        with self._lock:
            was_in_trouble = task.peer in self._in_trouble
            (self._in_trouble.add if trouble else self._in_trouble.discard)(task.peer)
        if trouble and not was_in_trouble:
            uid = task.study_instance_uid
            _log.warning("study %s: %s The quiet period decides, until it answers.", uid, trouble)
        elif was_in_trouble and not trouble:
            _log.info("peer %s answers again", task.peer)
