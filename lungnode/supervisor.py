"""The children of `lungnode up`: started, watched, restarted with backoff and stopped together."""

import ctypes
import fcntl
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import IO, Final

from lungnode.errors import UnavailableError

_LOG = logging.getLogger(__name__)

_LOOK_S: Final = 0.1
_FIRST_WAIT_S: Final = 0.5  # before the first restart; doubles each time
_LONGEST_WAIT_S: Final = 8.0  # what it would have done meanwhile is late by so much
_HEALTHY_S: Final = 20.0  # a child that lived so long starts over with the first wait
_DRAIN_S: Final = 8.0  # for the roles to finish; the whole node is to be down within 10 s
_LAST_S: Final = 1.0  # for those that serve the others
_PR_SET_PDEATHSIG: Final = 1  # Source: linux/prctl.h


@dataclass(frozen=True)
class Role:
    """One program of the node."""

    name: str
    command: Sequence[str]
    serves_others: bool = False  # stopped after the others


@contextmanager
def sole_owner(data: Path) -> Iterator[None]:
    """Hold the lock of a data folder while the block runs; the kernel drops it with the process.

    Raises:
        UnavailableError: Another node runs on the folder, or it cannot be written.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = (data / "lock").open("a+")
    except OSError as error:
        raise UnavailableError(f"The data folder {data} cannot be written: {error.strerror}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise UnavailableError(
                f"Another node runs on {data} (process {lock.read().strip() or 'unknown'}): stop it first, "
                "or name another folder with --data."
            ) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


class _Child:
    """One role and, unless it waits for its restart, its process."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._not_before = 0.0
        self._wait_s = _FIRST_WAIT_S

    def look(self, now: float) -> None:
        """Notice that the process ended, or start it when its time has come."""
        if self.process is None:
            if now >= self._not_before:
                self.process, self._started_at = start_child(self.role.command), now
        elif self.process.poll() is not None:
            self._plan_restart(self.process, now)

    def _plan_restart(self, ended: subprocess.Popen[bytes], now: float) -> None:
        if now - self._started_at >= _HEALTHY_S:
            self._wait_s = _FIRST_WAIT_S
        _LOG.error("%s %s; started again in %.1f s", self.role.name, _ending(ended.returncode), self._wait_s)
        self._not_before = now + self._wait_s
        self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)
        _kill_group(ended)  # its own children are of no use without it
        self.process = None


class Supervisor:
    """Keeps one process alive for each role."""

    def __init__(self, roles: Sequence[Role], clock: Callable[[], float] = time.monotonic) -> None:
        self._children = [_Child(role) for role in roles]
        self._clock = clock

    def run(self, stopping: Event, each_look: Callable[[], None] = lambda: None) -> None:
        """Keep the children alive until `stopping` is set, then stop them."""
        try:
            while not stopping.is_set():
                self.look()
                each_look()
                stopping.wait(_LOOK_S)
        finally:
            self.stop()

    def look(self) -> None:
        """Start what is not there, unless it has to wait."""
        for child in self._children:
            child.look(self._clock())

    def waiting(self) -> str:
        """Name the children that are down; empty when none is."""
        down = [child.role.name for child in self._children if child.process is None]
        return f"{', '.join(down)} to be started again" if down else ""

    def stop(self) -> None:
        """Ask all children to finish, wait, and kill what is left; those that serve the others come last."""
        for serving, patience_s in ((False, _DRAIN_S), (True, _LAST_S)):
            processes = [c.process for c in self._children if c.process and c.role.serves_others is serving]
            for process in processes:
                process.terminate()
            deadline = self._clock() + patience_s
            for process in processes:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - self._clock()))
                _kill_group(process)


def start_child(
    command: Sequence[str], environment: dict[str, str] | None = None, log: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that ends when we do, in a group of its own; its output goes to `log`, else to ours."""
    parent = os.getpid()
    libc = ctypes.CDLL(None)

    def die_with_parent() -> None:
        # A supervisor that is killed must not leave children that keep the port and the rows.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    # A group of its own: Ctrl-C reaches us alone, and a child's children can be killed with it.
    return subprocess.Popen(  # noqa: S603 - our own programs
        command,
        process_group=0,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - unsafe only beside threads, and we have none when we start
        env=environment,
        stdout=log,
        stderr=log,
    )


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ending(returncode: int) -> str:
    if returncode < 0:
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"ended with exit code {returncode}"
