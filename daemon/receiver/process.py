"""One receiver process: takes connections from the shared sockets, a thread each, until told to stop."""

import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from daemon.receiver.admission import is_within
from daemon.receiver.alerts import Alerts
from daemon.receiver.association import Association, Node
from daemon.receiver.backlog import Backlog
from daemon.receiver.disk import Disk
from daemon.receiver.listening import Listeners
from daemon.receiver.seats import Seats
from daemon.receiver.signals import SignalQueue
from daemon.receiver.tally import Tally
from daemon.receiver.told import EVERY_S, CountsFile
from lungnode.settings import Settings

logger = logging.getLogger(__name__)

DRAIN_S: Final = 4.0  # for running C-STOREs, after which connections are cut
_CUT_S: Final = 0.5  # for the threads of cut connections
_DEFER_S: Final = 0.002  # a busier process leaves a connection to a less busy one for so long


class ReceiverProcess:
    """Serves until SIGTERM, or until the parent is gone."""

    def __init__(
        self, settings: Settings, listeners: Listeners, *, row: int, seats: Seats, lifeline: int
    ) -> None:
        self._listeners = listeners
        self._lifeline = lifeline  # read end of a pipe that only the parent can write: EOF means it died
        self._row = row
        self._seats = seats
        self._tally = Tally()
        self._counts_file = CountsFile(settings.data, row)
        disk = Disk(settings.spool, settings.receiver)
        self._alerts = Alerts(settings.alerts, disk.is_full)
        backlog = Backlog(settings.spool)
        self._node = Node(settings, seats, disk, self._tally, self._alerts, backlog, listeners.certificates)
        self._associations: dict[Association, threading.Thread] = {}
        self._lock = threading.Lock()

    def run(self) -> None:
        """Take connections until told to stop, then drain."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides
        with SignalQueue((signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)) as signals:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            self._serve_until_stopped(signals)
            self._listeners.close()
            self._drain()

    def _serve_until_stopped(self, signals: SignalQueue) -> None:
        poll = select.poll()
        listeners = {listener.fileno(): listener for listener in self._listeners.sockets}
        for descriptor in (*listeners, self._lifeline, signals.fileno()):
            poll.register(descriptor, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(EVERY_S * 1000)}
            self._counts_file.write(self._tally.counts())
            received = signals.wait(0) if signals.fileno() in ready else set()
            if signal.SIGUSR1 in received:
                logger.info("counted since the start: %s", self._tally.counts())
            if signal.SIGHUP in received and self._listeners.certificates is not None:
                self._listeners.certificates.renew()
            if signal.SIGTERM in received or self._lifeline in ready:
                return
            for descriptor in ready & listeners.keys():
                self._accept(listeners[descriptor])

    def _accept(self, listener: socket.socket) -> None:
        loads = self._seats.connections()
        if loads[self._row] > min(loads):
            # The kernel wakes all: without this one process might serve everything under its GIL.
            time.sleep(_DEFER_S)
        try:
            connection, peer = listener.accept()
        except BlockingIOError:
            return  # another process took it
        except OSError as error:
            logger.error("no connection can be taken: %s", error.strerror)  # noqa: TRY400 - one line
            time.sleep(0.1)  # out of descriptors: the connection would wake us again at once
            return
        is_proxy = is_within(peer[0], self._node.settings.receiver.proxies)
        place = self._seats.enter(self._row, peer[0], is_proxy=is_proxy)
        if place is None:
            self._tally.add({"connection_limit": 1})
            logger.warning("connection of %s closed: %d are open already", peer[0], sum(loads))
            connection.close()
            return
        self._start(connection, peer[0], place, is_encrypted=listener is self._listeners.encrypted)

    def _start(self, connection: socket.socket, address: str, place: int, *, is_encrypted: bool) -> None:
        try:
            connection.setblocking(True)
            association = Association(connection, address, self._node, place, is_encrypted=is_encrypted)
        except OSError:
            self._leave(connection, place)  # the peer was gone before we looked
            return
        thread = threading.Thread(target=self._serve, args=(association, connection, place), daemon=True)
        with self._lock:
            self._associations[association] = thread
        try:
            thread.start()
        except RuntimeError as error:
            logger.error("connection of %s cannot be served: %s", address, error)  # noqa: TRY400 - one line
            self._forget(association, connection, place)

    def _serve(self, association: Association, connection: socket.socket, place: int) -> None:
        try:
            association.run()
        finally:
            self._forget(association, connection, place)

    def _forget(self, association: Association, connection: socket.socket, place: int) -> None:
        self._leave(connection, place)
        with self._lock:
            del self._associations[association]

    def _leave(self, connection: socket.socket, place: int) -> None:
        connection.close()
        self._seats.leave(place)

    def _drain(self) -> None:
        self._each(Association.stop)
        if not self._wait(DRAIN_S):
            self._each(Association.cut)
            self._wait(_CUT_S)
        self._alerts.flush()

    def _each(self, action: Callable[[Association], None]) -> None:
        with self._lock:
            associations = list(self._associations)
        for association in associations:
            action(association)

    def _wait(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        with self._lock:
            threads = list(self._associations.values())
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)


def serve_process(settings: Settings, listeners: Listeners, *, row: int, seats: Seats, lifeline: int) -> None:
    """Run a receiver process to its end, then leave without the parent's clean-up."""
    try:
        ReceiverProcess(settings, listeners, row=row, seats=seats, lifeline=lifeline).run()
    except Exception:  # the edge of a process: the parent starts another
        logger.exception("a receiver process failed")
        os._exit(1)
    os._exit(0)
