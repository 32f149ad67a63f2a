"""The ports that all processes of a receiver share."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from daemon.receiver.tls import Certificates
from lungnode.errors import UnavailableError
from lungnode.settings import ReceiverSettings

_BACKLOG: Final = 512


@dataclass(frozen=True)
class Listeners:
    """What connections come from: at least one of the two."""

    plain: socket.socket | None
    encrypted: socket.socket | None
    certificates: Certificates | None  # with `encrypted`, and only then

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """Those that are there."""
        return tuple(listener for listener in (self.plain, self.encrypted) if listener is not None)

    def addresses(self) -> dict[str, Any]:
        """Host and ports, as the file that announces them has it."""
        found: dict[str, Any] = {}
        for name, listener in (("port", self.plain), ("tls_port", self.encrypted)):
            if listener is not None:
                found["host"], found[name] = listener.getsockname()[:2]
        return found

    def close(self) -> None:
        """Take no more connections."""
        for listener in self.sockets:
            listener.close()


@contextmanager
def listen(settings: ReceiverSettings) -> Iterator[Listeners]:
    """Hold the ports of these settings open.

    Raises:
        UnavailableError: A port is taken or cannot be opened, or the certificate cannot be used.
    """
    with ExitStack() as stack:
        plain = encrypted = certificates = None
        if settings.tls.certificate is not None:
            certificates = Certificates(settings.tls)
            encrypted = stack.enter_context(_open(settings.host, settings.tls.port))
        if not settings.tls.only:
            plain = stack.enter_context(_open(settings.host, settings.port))
        yield Listeners(plain, encrypted, certificates)


def _open(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise UnavailableError(
            f"The receiver cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}."
        ) from error
    listener.setblocking(False)
    return listener
