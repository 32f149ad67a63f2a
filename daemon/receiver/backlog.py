"""Whether so much waits to be analysed that new associations are turned away; this host's clerk knows."""

import logging
from pathlib import Path

from lungnode.congestion import is_told

logger = logging.getLogger(__name__)


class Backlog:
    """What the clerk last said, as one process knows it."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._was_congested = False

    def is_congested(self) -> bool:
        """Look now: it is one system call."""
        is_congested = is_told(self._spool)
        if is_congested != self._was_congested:
            self._was_congested = is_congested
            if is_congested:
                logger.warning("too many studies wait: new associations are turned away for now")
            else:
                logger.info("new associations are accepted again")
        return is_congested
