"""How long work says how far it is: lines in a log, or whatever the command line shows."""

import logging
from collections.abc import Callable
from time import monotonic
from typing import Protocol

_LOG = logging.getLogger(__name__)


class Progress(Protocol):
    """Hears what the training does."""

    def begin(self, what: str, total: int) -> None:
        """Work of `total` steps begins; what was begun before is over."""
        ...

    def advance(self, steps: int = 1) -> None:
        """So many steps are done."""
        ...

    def say(self, line: str) -> None:
        """Something is worth a line."""
        ...


class LoggedProgress:
    """Lines in the log: each that is worth one, and now and then how far the work is."""

    def __init__(self, every_s: float = 30.0, now: Callable[[], float] = monotonic) -> None:
        """Say how far the work is at most every so many seconds."""
        self._every_s, self._now = every_s, now
        self._said = now()
        self._what, self._done, self._total = "", 0, 0

    def begin(self, what: str, total: int) -> None:
        """Remember what begins."""
        self._what, self._done, self._total = what, 0, total

    def advance(self, steps: int = 1) -> None:
        """Say how far it is, where that is due."""
        self._done += steps
        if self._now() - self._said >= self._every_s:
            self._said = self._now()
            _LOG.info("%s: %d of %d", self._what, self._done, self._total)

    def say(self, line: str) -> None:
        """Log the line."""
        _LOG.info("%s", line)


class Silence:
    """Nobody listens."""

    def begin(self, what: str, total: int) -> None:
        """Nothing is heard."""

    def advance(self, steps: int = 1) -> None:
        """Nothing is heard."""

    def say(self, line: str) -> None:
        """Nothing is heard."""
