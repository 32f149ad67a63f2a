"""Passes on to the receiver of this host that more studies wait than may."""

import logging
from typing import Final

from sqlalchemy import Engine

from daemon.clerk.files import writing_to
from db.analyses import count_waiting
from db.session import reading
from lungnode.congestion import take_back, tell
from lungnode.settings import Settings

_ENOUGH: Final = 0.9  # of the limit: then more is taken again, and not for one study at a time
_log = logging.getLogger(__name__)


class Pressure:
    """This host's part: every clerk tells its own receiver."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine, self._settings = engine, settings
        self._is_told = False

    def look(self) -> None:
        """Count what waits, and tell the receiver when it is too much and when no longer.

        Raises:
            UnavailableError: The database or the spool is away.
        """
        spool, most = self._settings.spool, self._settings.receiver.max_waiting_studies
        with writing_to(spool):
            if most is None:
                take_back(spool)
                return
            with reading(self._engine) as session:
                waiting = count_waiting(session, most + 1)
            is_too_much = waiting > (most * _ENOUGH if self._is_told else most)
            if is_too_much != self._is_told:
                _log.warning("%s %d studies wait", "more than" if is_too_much else "fewer than", most)
            self._is_told = is_too_much
            (tell if is_too_much else take_back)(spool)
