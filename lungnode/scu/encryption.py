"""TLS of an association that we open, and what pynetdicom keeps to itself: why it did not come about."""

import ssl
from collections.abc import Callable
from typing import Any

from lungnode.errors import UnavailableError, UnusableError
from lungnode.settings import Peer
from lungnode.tls import TlsTrouble, client_context, trouble_of


class Encryption:
    """TLS towards one peer, for one association; nothing where the peer's port is not encrypted."""

    def __init__(self, peer: Peer) -> None:
        """Read the files.

        Raises:
            UnavailableError: One cannot be read or does not fit.
        """
        self.arguments: tuple[ssl.SSLContext, str] | None = None  # as pynetdicom takes them
        self._trouble: TlsTrouble | None = None
        if peer.tls is not None:
            context = client_context(peer.tls)
            context.sslsocket_class = _watched(self._notice)
            self.arguments = context, peer.tls.server_name or peer.host

    def failure(self, peer: str) -> UnavailableError | UnusableError | None:
        """Return what kept us from a peer, if it was TLS; only what another attempt may mend is transient."""
        if self._trouble is None:
            return None
        kind = UnusableError if self._trouble.lasts else UnavailableError
        return kind(f"No TLS with {peer}: {self._trouble.sentence} ({self._trouble.name}).")

    def _notice(self, error: OSError) -> None:
        self._trouble = self._trouble or trouble_of(error)


def _watched(notice: Callable[[OSError], None]) -> type[ssl.SSLSocket]:
    """Return sockets that tell of their errors: a certificate of ours may be refused after the handshake."""

    class Watched(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            try:
                super().do_handshake(block)
            except OSError as error:
                notice(error)
                self.close()  # pynetdicom does so only where the connection is still there
                raise

        def read(self, *arguments: Any) -> Any:
            try:
                return super().read(*arguments)
            except ssl.SSLError as error:
                notice(error)
                raise

    return Watched
