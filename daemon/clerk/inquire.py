"""Asks the sources of studies in threads of its own: who is slow to answer never holds up the index."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from threading import Lock, Thread
from time import monotonic, sleep
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from daemon.clerk.question import Asker, Task
from db import inquiries, intake
from db.models import Inquiry, InquiryKind, Study
from db.session import transaction
from db.work import INQUIRIES, Claim, claim, give_back, new_owner, renew
from lungnode.errors import UnavailableError
from lungnode.scu.association import abort_all
from lungnode.settings import Settings

LEASE_S: Final = 60.0
# Threads of each kind, and at one peer: a silent one does not keep the others from being asked.
MOST: Final = {InquiryKind.COUNT: 4, InquiryKind.FETCH: 2}
MOST_AT_ONE_PEER: Final = 2
_HANG_UP_S: Final = 2.0
_LOOK_S: Final = 0.05


class Inquirer:
    """Claims the questions that are due and has threads ask them; no method waits for a peer but `wait`."""

    def __init__(self, engine: Engine, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._clock = clock
        self._asker = Asker(engine, settings, clock)
        self._lock = Lock()
        self._running: dict[str, tuple[Task, Thread]] = {}  # by the owner of the claim

    def round(self) -> None:
        """Renew what is being asked, and begin to ask what is due.

        Raises:
            UnavailableError: The database is away.
        """
        now = self._clock()
        with transaction(self._engine) as session:
            for task in self._tasks():
                renew(session, task.held, now, LEASE_S)
            begun = self._claim(session, now)
        for task in begun:
            thread = Thread(target=self._run, args=(task,), name=f"inquiry-{task.held.row_id}", daemon=True)
            with self._lock:
                self._running[task.held.owner] = (task, thread)
            thread.start()

    @property
    def is_asking(self) -> bool:
        """Whether a thread is at it."""
        return bool(self._tasks())

    def wait(self) -> None:
        """Wait until nothing is being asked."""
        with self._lock:
            threads = [thread for _, thread in self._running.values()]
        for thread in threads:
            thread.join()

    def stop(self) -> None:
        """Give back what is being asked, and hang up; what is not connected yet has a moment to be."""
        with suppress(UnavailableError), transaction(self._engine) as session:
            for task in self._tasks():
                give_back(session, task.held, self._clock())
        deadline = monotonic() + _HANG_UP_S
        while self.is_asking and monotonic() < deadline:
            abort_all()
            sleep(_LOOK_S)

    def _tasks(self) -> list[Task]:
        with self._lock:
            return [task for task, _ in self._running.values()]

    def _claim(self, session: Session, now: datetime) -> list[Task]:
        due = inquiries.due_inquiries(session, now)
        open_uids = intake.open_study_uids(session, now) if due else set()
        running = self._tasks()
        claimed: list[Task] = []
        for row in due:
            uid = session.get_one(Study, row.study_id).study_instance_uid
            if uid in open_uids or not _has_room(row, [*running, *claimed]):
                continue
            held = Claim(INQUIRIES, row.id, new_owner())
            if claim(session, held, now, LEASE_S):
                claimed.append(Task(held, InquiryKind(row.kind), row.peer, row.study_id, uid))
        return claimed

    def _run(self, task: Task) -> None:
        try:
            self._asker.ask(task)
        finally:
            with self._lock:
                del self._running[task.held.owner]


def _has_room(row: Inquiry, running: Sequence[Task]) -> bool:
    kinds = Counter(task.kind for task in running)
    same = sum(task.peer == row.peer and task.kind == row.kind for task in running)
    return kinds[InquiryKind(row.kind)] < MOST[InquiryKind(row.kind)] and same < MOST_AT_ONE_PEER
