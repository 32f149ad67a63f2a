"""A network that can be cut and slowed: a relay on loopback between two programs."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from select import select
from socketserver import BaseRequestHandler, ThreadingTCPServer
from time import monotonic, sleep
from typing import Final

_CHUNK: Final = 65536
_LOOK_S: Final = 0.5
_SLOW_CHUNK: Final = 8192
_SLOW_S: Final = 0.1  # for each of those: 80 KB/s
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: what is not sent yet is dropped, the peer hears a reset


class Network(ThreadingTCPServer):
    """Relays every connection to a port of this host."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, far_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Relay)
        self.far_port = far_port
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._slow_until = 0.0

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def cut(self) -> int:
        """Reset all connections, in the middle of whatever they carry; return how many there were."""
        with self._lock:
            ends = list(self._open)
        for end in ends:
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RDWR)
        return len(ends) // 2

    def slow(self, seconds: float) -> int:
        """Carry 80 KB/s for so long, on each connection; return how many there are."""
        self._slow_until = monotonic() + seconds
        with self._lock:
            return len(self._open) // 2

    def pace(self) -> int:
        """Wait as long as the next bytes take, and return how many those are."""
        if monotonic() > self._slow_until:
            return _CHUNK
        sleep(_SLOW_S)
        return _SLOW_CHUNK

    @contextmanager
    def carrying(self, *ends: socket.socket) -> Iterator[None]:
        """Count both ends of a connection while the block runs."""
        with self._lock:
            self._open.update(ends)
        try:
            yield
        finally:
            with self._lock:
                self._open.difference_update(ends)

    def handle_error(self, _request: object, _address: object) -> None:
        """Say nothing: connections that break are what this is for."""


class _Relay(BaseRequestHandler):
    server: Network

    def handle(self) -> None:
        near = self.request
        with (
            socket.create_connection(("127.0.0.1", self.server.far_port)) as far,
            self.server.carrying(near, far),
        ):
            other = {near: far, far: near}
            while True:
                for end in select([near, far], [], [], _LOOK_S)[0]:
                    data = end.recv(self.server.pace())
                    if not data:
                        return
                    other[end].sendall(data)


@contextmanager
def network_to(far_port: int) -> Iterator[Network]:
    """Relay to a port while the block runs."""
    with Network(far_port) as network:
        thread = threading.Thread(target=network.serve_forever, daemon=True)
        thread.start()
        try:
            yield network
        finally:
            network.cut()
            network.shutdown()
            thread.join()
