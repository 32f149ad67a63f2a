"""One clerk of all leads: it takes back what was abandoned, chains the audit trail and deletes old files.

Nothing depends on there being one alone: a leader that was held up for a while, and another beside it, do
each step under the clerks' lock, or prove it by a statement. It spares the database the others' questions.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from threading import Lock
from typing import Final

from sqlalchemy import Engine

from db.leadership import lead, resign
from db.session import transaction
from db.work import new_owner
from lungnode.errors import UnavailableError

DUTY: Final = "clerk"
LEASE_S: Final = 15.0  # at least; so long a leader that died is not missed
_RENEWALS: Final = 3  # in one lease
_log = logging.getLogger(__name__)


class Leading:
    """This clerk's part in it; several threads may ask."""

    def __init__(self, engine: Engine, sweep_s: float, clock: Callable[[], datetime]) -> None:
        self._engine, self._clock = engine, clock
        self._lease = timedelta(seconds=max(LEASE_S, _RENEWALS * sweep_s))
        self._owner, self._lock = new_owner(), Lock()
        self._renew_at: datetime | None = None  # None while another leads

    def __call__(self) -> bool:
        """Take the lead if nobody has it, or keep it; tell whether this clerk leads.

        Raises:
            UnavailableError: The database is away, and so nobody leads.
        """
        with self._lock:
            now = self._clock()
            if self._renew_at is not None and now < self._renew_at:
                return True
            with transaction(self._engine) as session:
                leads = lead(session, DUTY, self._owner, now, self._lease.total_seconds())
            if leads != (self._renew_at is not None):
                _log.info("this clerk %s", "leads the others" if leads else "leads no longer")
            self._renew_at = now + self._lease / _RENEWALS if leads else None
            return leads

    def resign(self) -> None:
        """Let the next clerk lead at once."""
        with self._lock, suppress(UnavailableError), transaction(self._engine) as session:
            resign(session, DUTY, self._owner, self._clock())
