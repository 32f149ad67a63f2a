"""Reads damaged files as the clerk and the worker do: each ends as an image or as one sentence, in time."""

import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from daemon.clerk.header import read_header
from lungnode.errors import UnusableError
from lungnode.loading import read_gray, read_instance
from lungnode.series import slice_headers
from tests.hostile.datasets import damaged

LIMIT_S: Final = 20.0  # for one file; a busy machine needs some


class TooLongError(Exception):
    """A file took longer than the limit."""


@dataclass
class Readings:
    """What became of many damaged files."""

    read: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    longest_s: float = 0.0

    def add(self, other: "Readings") -> None:
        """Take another's counts as well."""
        self.read += other.read
        self.outcomes.update(other.outcomes)
        self.problems += other.problems
        self.longest_s = max(self.longest_s, other.longest_s)


def read_all(seeds: list[bytes], seed: int, numbers: Iterable[int], path: Path) -> Readings:
    """Write one damaged file after the other to `path` and read it."""
    found = Readings()
    for number in numbers:
        path.write_bytes(damaged(seeds, seed, number))
        started = time.monotonic()
        try:
            with limited(LIMIT_S):
                outcome = _read(path)
        except BaseException as error:  # noqa: BLE001 - whatever else comes out is what we look for
            found.problems.append(f"data set {seed}-{number}: {type(error).__name__}: {str(error)[:200]}")
            outcome = "problem"
        found.read += 1
        found.outcomes[outcome] += 1
        found.longest_s = max(found.longest_s, time.monotonic() - started)
    return found


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Interrupt the block when it takes longer."""

    def interrupt(*_: object) -> None:
        raise TooLongError(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _read(path: Path) -> str:
    """Read as the clerk does; what it would archive is decoded as the worker does."""
    try:
        read_header(path, ("StudyDescription", "ReferringPhysicianName"))
    except UnusableError:
        return "quarantined"
    try:
        for header in slice_headers(read_instance(path, pixels=False), path)[:2]:
            read_gray(header)
    except UnusableError:
        return "archived, no image"
    return "archived"
