"""What happened in one process since its start, counted by name."""

import threading
from collections import Counter
from collections.abc import Mapping


class Tally:
    """A counter that threads share."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, counts: Mapping[str, int]) -> None:
        """Add each of `counts`."""
        with self._lock:
            self._counts.update(counts)

    def counts(self) -> dict[str, int]:
        """Return all counts so far."""
        with self._lock:
            return dict(self._counts)
