"""The receiver: listening sockets, several processes that share them, a parent that keeps them running."""

import json
import logging
import os
import signal
import time
from pathlib import Path
from typing import Final

from daemon.receiver.alerts import Alert, Alerts
from daemon.receiver.listening import Listeners, listen
from daemon.receiver.process import DRAIN_S, serve_process
from daemon.receiver.seats import Seats, limits_of
from daemon.receiver.signals import SignalQueue
from lungnode.durable import make_folder
from lungnode.pulse import BEAT_S, Pulse
from lungnode.settings import Settings

logger = logging.getLogger(__name__)

ADDRESS_FILE: Final = "receiver.json"  # {"host", "port", "tls_port", "pid"} while we listen
_SHORT_LIFE_S: Final = 5.0  # a process that lived shorter is started again only after a pause
_PAUSE_S: Final = 1.0
_KILL_AFTER_S: Final = DRAIN_S + 1.0
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGUSR1, signal.SIGHUP)


def serve(settings: Settings) -> None:
    """Receive until SIGTERM or SIGINT; blocks. Call it in a process without other threads, for it forks.

    Raises:
        UnavailableError: A port is taken or cannot be opened, or the certificate cannot be used.
    """
    with listen(settings.receiver) as listeners, SignalQueue(_SIGNALS) as signals:
        _prepare_spool(settings.spool)
        address_file = settings.data / ADDRESS_FILE
        _announce(address_file, listeners)
        _tell(settings, "application started")
        try:
            _Parent(settings, listeners, signals).run()
        finally:
            _withdraw(address_file)
            _tell(settings, "application stopped")


def _tell(settings: Settings, action: str) -> None:
    """Let the audit trail know."""
    alert = Alert(action, called_ae_title=settings.receiver.ae_title)
    Alerts(settings.alerts).tell(alert)


class _Parent:
    """Forks the processes, restarts those that die, and passes on the signal to stop."""

    def __init__(self, settings: Settings, listeners: Listeners, signals: SignalQueue) -> None:
        self._settings = settings
        self._listeners = listeners
        self._signals = signals
        self._seats = Seats(settings.receiver.processes, limits_of(settings.receiver))
        self._lifeline, self._life = os.pipe()
        self._rows: dict[int, tuple[int, float]] = {}  # pid: row, start
        self._due: dict[int, float] = {}  # row: when to start it again
        self._pulse = Pulse(settings.data, "receive")

    def run(self) -> None:
        for row in range(self._settings.receiver.processes):
            self._fork(row)
        while True:
            self._beat()
            received = self._signals.wait(self._seconds_until_due())
            if received & {signal.SIGTERM, signal.SIGINT}:
                break
            for number in received & {signal.SIGUSR1, signal.SIGHUP}:
                self._pass_on(number)
            self._bury()
            self._restart()
        self._stop()

    def _fork(self, row: int) -> None:
        self._seats.clear(row)
        # A signal between fork and the child's own handlers would wake the parent in the child's place.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        pid = os.fork()
        if pid == 0:
            os.close(self._life)
            serve_process(
                self._settings, self._listeners, row=row, seats=self._seats, lifeline=self._lifeline
            )
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        self._rows[pid] = (row, time.monotonic())

    def _beat(self) -> None:
        down = self._settings.receiver.processes - len(self._rows)
        self._pulse.beat(waiting=f"{down} processes are down" if down else "")

    def _seconds_until_due(self) -> float:
        now = time.monotonic()
        return max(0.0, min([now + BEAT_S, *self._due.values()]) - now)

    def _bury(self) -> None:
        while self._rows:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            row, started = self._rows.pop(pid)
            self._seats.clear(row)
            now = time.monotonic()
            self._due[row] = now + (_PAUSE_S if now - started < _SHORT_LIFE_S else 0.0)
            logger.error(
                "receiver process %d ended (%d); another is started", pid, os.waitstatus_to_exitcode(status)
            )

    def _restart(self) -> None:
        now = time.monotonic()
        for row in [row for row, due in self._due.items() if due <= now]:
            del self._due[row]
            self._fork(row)

    def _pass_on(self, number: int) -> None:
        for pid in self._rows:
            os.kill(pid, number)

    def _stop(self) -> None:
        logger.info("stopping: running transfers may finish for %.0f s", DRAIN_S)
        self._pulse.end()
        self._listeners.close()
        self._pass_on(signal.SIGTERM)
        deadline = time.monotonic() + _KILL_AFTER_S
        while self._rows and time.monotonic() < deadline:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid:
                del self._rows[pid]
            else:
                self._signals.wait(max(0.0, deadline - time.monotonic()))
        for pid in self._rows:
            logger.error("receiver process %d did not stop and is killed", pid)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _prepare_spool(spool: Path) -> None:
    try:
        make_folder(spool)
    except OSError as error:
        # Not fatal: peers are told 0xA700, and the first write that works again is served.
        logger.error("the spool %s cannot be made: %s", spool, error.strerror)  # noqa: TRY400 - one line


def _announce(path: Path, listeners: Listeners) -> None:
    for kind, listener in (("", listeners.plain), (" with TLS", listeners.encrypted)):
        if listener is not None:
            logger.info("receiver listens on %s port %d%s", *listener.getsockname()[:2], kind)
    part = path.with_suffix(".json.part")
    try:
        part.write_text(json.dumps(listeners.addresses() | {"pid": os.getpid()}))
        part.rename(path)
    except OSError as error:
        logger.error("%s cannot be written: %s", path, error.strerror)  # noqa: TRY400 - one line


def _withdraw(path: Path) -> None:
    try:
        if json.loads(path.read_text())["pid"] == os.getpid():
            path.unlink()
    except (OSError, ValueError, KeyError):
        return  # another receiver's, or never written
