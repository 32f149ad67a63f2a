"""Wakes workers, and takes back the work of those that fell silent. A lost message costs one sweep."""

import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from celery import Celery
from sqlalchemy import Engine

from db import work
from db.session import transaction
from lungnode.broker import messages_waiting
from lungnode.errors import UnavailableError
from lungnode.queue import ANALYSE_TASK, CONFIRM_TASK, DELIVER_TASK, QUEUES, REPORT_TASK, wake
from lungnode.settings import Settings

# A message may wait longer behind others; its repeat finds the row claimed and does nothing. Where a lease is
# shorter, that is how long anybody may be silent: a worker that is killed may have taken a message with it.
RESEND_AFTER_S: Final = 30.0
# In one queue; more would only grow older there. Whatever row a message names, the most urgent one is taken.
MOST_MESSAGES: Final = 500
_WOKEN: Final = {
    ANALYSE_TASK: work.ANALYSES,
    DELIVER_TASK: work.DELIVERIES,
    REPORT_TASK: work.REPORTS,
    CONFIRM_TASK: work.CONFIRMATIONS,
}
_log = logging.getLogger(__name__)


class Dispatcher:
    """Sends wake-ups for due rows."""

    def __init__(self, engine: Engine, settings: Settings, app: Celery) -> None:
        self._engine = engine
        self._settings = settings
        self._app = app
        self._must_repeat = True
        self._is_broker_away = False

    def sweep(self, now: datetime, *, is_first: bool = False) -> None:
        """Take back abandoned rows, then wake workers for everything that is due.

        Args:
            now: The time.
            is_first: This clerk begins to lead: what another one marked it may never have sent.

        Raises:
            UnavailableError: The database is away.
        """
        self._must_repeat |= is_first
        self._take_back(now)
        self.wake_workers(now)

    def _take_back(self, now: datetime) -> None:
        deliveries, analyses = self._settings.delivery.max_attempts, self._settings.analysis.max_attempts
        limits = {work.ANALYSES: analyses, work.INQUIRIES: self._settings.clerk.ask_attempts}
        limits |= dict.fromkeys(
            (work.DELIVERIES, work.VERIFICATIONS, work.REPORTS, work.CONFIRMATIONS), deliveries
        )
        with transaction(self._engine) as session:
            for table, attempts in limits.items():
                for row_id in work.take_back(session, table, now, attempts):
                    _log.error("took back %s %d: its worker fell silent", table.row.__tablename__, row_id)

    def wake_workers(self, now: datetime) -> None:
        """Wake workers for everything that is due.

        Raises:
            UnavailableError: The database is away.
        """
        rooms = {queue: self._room(queue) for queue in set(QUEUES.values())}
        with transaction(self._engine) as session:
            # Marked as woken before they are: a message too few is sent again, rows never pile messages up.
            # What was marked while the broker was away never reached it.
            most_s = 0.0 if self._must_repeat or self._is_broker_away else RESEND_AFTER_S
            due = {
                task: work.due(session, table, now, min(most_s, self._lease_s(task)), rooms[QUEUES[task]])
                for task, table in _WOKEN.items()
            }
        self._must_repeat = False
        for task, row_ids in due.items():
            self._wake(task, row_ids)

    def _room(self, queue: str) -> int:
        try:
            return max(0, MOST_MESSAGES - messages_waiting(self._settings.broker, queue))
        except UnavailableError:
            return MOST_MESSAGES  # what cannot be sent is told where it is sent

    def _lease_s(self, task: str) -> float:
        of_analyses, of_deliveries = self._settings.analysis.lease_s, self._settings.delivery.lease_s
        return of_analyses if task == ANALYSE_TASK else of_deliveries

    def _wake(self, task: str, row_ids: Iterable[int]) -> None:
        for row_id in row_ids:
            try:
                wake(self._app, task, row_id)
            except UnavailableError as error:
                if not self._is_broker_away:
                    _log.error("work waits in the database: %s", error)
                self._is_broker_away = True
                return
            if self._is_broker_away:
                _log.info("the broker is back")
            self._is_broker_away = False
