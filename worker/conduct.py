"""What an analysis needs of whoever runs it: the time, leave to go on, and how much to look at."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


def _go_on(_phase: str, _done: int, _total: int) -> None:
    pass


@dataclass(frozen=True)
class Conduct:
    """Passed into an analysis."""

    clock: Callable[[], float]  # seconds, from any origin
    # Told the phase and how many of its slices are done, after each slice or batch. What it raises ends the
    # analysis: a worker renews its lease here, and stops when it must.
    proceed: Callable[[str, int, int], None] = _go_on  # by any thread
    at_most: int | None = None  # slices of a series to look at, evenly spread; None: all of them


@dataclass
class Stopwatch:
    """Adds up the seconds of each phase."""

    clock: Callable[[], float]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block's time to a phase."""
        start = self.clock()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + self.clock() - start
