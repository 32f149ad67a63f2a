"""Connections of requests with our TLS, which can be cut whatever they wait for."""

import ssl
from collections.abc import Callable
from socket import SHUT_RDWR, socket
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

Notice = Callable[[socket], None]


class Connections(HTTPAdapter):
    """The connections of one session."""

    def __init__(self, context: ssl.SSLContext | None, server_name: str | None) -> None:
        """Know what to encrypt with; without a context nothing is."""
        self._open: list[socket] = []
        self._tls: dict[str, Any] = {}
        self.was_cut = False
        if context is not None:
            self._tls = {"ssl_context": context, "server_hostname": server_name}
            if not context.check_hostname:
                self._tls["assert_hostname"] = False
            if context.verify_mode == ssl.CERT_NONE:  # the operator's decision needs no reminder
                urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        super().__init__()

    def cut(self) -> None:
        """End every wait for the server."""
        self.was_cut = True
        for connection in self._open:
            try:
                connection.shutdown(SHUT_RDWR)
            except OSError:
                continue  # it is closed already

    def close(self) -> None:
        """Close all."""
        super().close()
        while self._open:
            self._open.pop().close()

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        """Let connections be noticed."""
        super().init_poolmanager(connections, maxsize, block, **options, **self._tls)
        self.poolmanager.pool_classes_by_scheme = _pools(self._open.append)

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        """Leave whom to believe to our own TLS context: requests would add authorities of its own."""
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Leave it there here, too."""


def _pools(notice: Notice) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    """Return pools that show each socket before TLS begins on it, as a second handle on the connection."""

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket:
            made = super()._new_conn()
            notice(made.dup())
            return made

    class Encrypted(HTTPSConnection):
        def _new_conn(self) -> socket:
            made = super()._new_conn()
            notice(made.dup())
            return made

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Encrypted

    return {"http": PlainPool, "https": EncryptedPool}
