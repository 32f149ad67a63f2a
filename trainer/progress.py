"""How long work says how far it is: lines in a log, or whatever the command line shows."""

import logging
from collections.abc import Callable
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
    """A line for each tenth of the work."""

    def __init__(self, log: Callable[[str], None] = _LOG.info) -> None:
        """Say each line to `log`."""
        self._log = log
        self._what, self._done, self._total = "", 0, 1

    def begin(self, what: str, total: int) -> None:
        self._what, self._done, self._total = what, 0, max(1, total)

    def advance(self, steps: int = 1) -> None:
        tenth = self._done * 10 // self._total
        self._done += steps
        if self._done * 10 // self._total > tenth:
            self._log(f"{self._what}: {self._done} of {self._total}")

    def say(self, line: str) -> None:
        self._log(line)


class Silence:
    """Nobody listens."""

    def begin(self, what: str, total: int) -> None:
        pass

    def advance(self, steps: int = 1) -> None:
        pass

    def say(self, line: str) -> None:
        pass
