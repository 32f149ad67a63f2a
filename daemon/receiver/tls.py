"""Associations over TLS: the handshake, the encrypted transport, and certificates that change while we run.

OpenSSL works on memory here, and the socket is read and written as without TLS: the same kernel timeouts and
the same deadline hold, and one read of the socket brings many TLS records, where `ssl.SSLSocket` makes two
reads for each.
"""

import logging
import mmap
import os
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from daemon.receiver.pdu import AbortReason, AbortSource, PeerGoneError, PeerSilentError, encode_abort
from daemon.receiver.transport import Transport
from lungnode.errors import LungnodeError, UnavailableError
from lungnode.settings import ReceiverTls
from lungnode.tls import TlsTrouble, server_context, trouble_of

logger = logging.getLogger(__name__)

_ENCRYPTED_BYTES: Final = 1 << 17  # read from the socket at once: eight records of the largest kind
_PLAIN_REQUEST: Final = b"\x01\x00"  # how an A-ASSOCIATE-RQ begins, and never a TLS record


class TlsError(LungnodeError):
    """No encrypted connection comes about; `farewell` is what the peer is to read before we close."""

    def __init__(self, trouble: TlsTrouble, farewell: bytes) -> None:
        super().__init__(f"{trouble.name}: {trouble.sentence}")
        self.trouble = trouble
        self.farewell = farewell


@dataclass(frozen=True)
class Secured:
    """What a handshake agreed on, and with whom."""

    transport: "TlsTransport"
    version: str
    certificate: bytes | None  # the peer's, verified, DER; None: it showed none


def secure(tcp: Transport, context: ssl.SSLContext) -> Secured:
    """Shake hands with a peer that begins: agree on keys, and verify who it is.

    Raises:
        TlsError: It does not come about.
        PeerGoneError: The connection ended first.
    """
    return TlsTransport(tcp, context).shake_hands()


class TlsTransport:
    """An encrypted connection over a plain one."""

    def __init__(self, tcp: Transport, context: ssl.SSLContext) -> None:
        self.limit_silence = tcp.limit_silence
        self.limit_total = tcp.limit_total
        self._tcp = tcp
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._encrypted = memoryview(mmap.mmap(-1, _ENCRYPTED_BYTES))
        self._first = b""

    def shake_hands(self) -> Secured:
        """See `secure`."""
        try:
            self._until_done(self._tls.do_handshake)
        except ssl.SSLError as error:
            raise self._failed(error) from error
        except PeerSilentError as error:
            raise TlsError(TlsTrouble.TLS_NO_ANSWER, b"") from error
        self._flush()
        return Secured(self, self._tls.version() or "", self._tls.getpeercert(binary_form=True))

    def is_ready(self, seconds: float) -> bool:
        """Wait at most `seconds` for something to read, the end included; tell whether there is."""
        return bool(self._tls.pending() or self._incoming.pending) or self._tcp.is_ready(seconds)

    def read_into(self, room: memoryview) -> int:
        """Read what has come, waiting for at least one byte; return how many there were."""
        count = 0
        while not count:
            try:
                count = self._decrypt(room)
            except ssl.SSLError as error:
                self._flush()  # the alert that tells the peer
                raise PeerGoneError(f"TLS broke: {error.reason}.") from error
            if not count:
                self._receive()
        return count

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            raise PeerGoneError(f"TLS broke: {error.reason}.") from error
        self._flush()

    def end(self) -> None:
        """Say that nothing more will be sent. Source: RFC 8446 6.1, close_notify."""
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            self._flush()  # the peer's own close_notify, which unwrap waits for, is of no interest

    def _decrypt(self, room: memoryview) -> int:
        """Decrypt the whole records that are here, as far as there is room; 0 when there is none."""
        count = 0
        try:
            while count < len(room):
                got = self._read(room[count:])
                if not got and not count:
                    raise PeerGoneError("The peer closed the connection.")
                if not got:
                    break
                count += got
        except ssl.SSLWantReadError:
            self._flush()  # a new key of the peer is acknowledged
        return count

    def _read(self, room: memoryview) -> int:
        # Its stub asks for a bytearray, and forgets that a number is returned.
        count: int = self._tls.read(len(room), room)  # type: ignore[assignment]
        return count

    def _until_done(self, step: Callable[[], object]) -> None:
        while True:
            try:
                step()
            except ssl.SSLWantReadError:
                self._flush()
                self._receive()
            else:
                return

    def _receive(self) -> None:
        count = self._tcp.read_into(self._encrypted)
        self._first = self._first or bytes(self._encrypted[: min(count, 2)])
        self._incoming.write(self._encrypted[:count])

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._tcp.send(self._outgoing.read())

    def _failed(self, error: ssl.SSLError) -> TlsError:
        if self._first == _PLAIN_REQUEST:
            abort = encode_abort(AbortSource.SERVICE_PROVIDER, AbortReason.NOT_SPECIFIED)
            return TlsError(TlsTrouble.TLS_NOT_SPOKEN, abort)
        return TlsError(trouble_of(error), self._outgoing.read())


class Certificates:
    """The context of new connections: made again when a file changes, kept when the new one is no good."""

    def __init__(self, tls: ReceiverTls) -> None:
        self._tls = tls
        self._files = [path for path in (tls.certificate, tls.key_file, tls.authorities) if path]
        self._lock = threading.Lock()
        self._stamp = self._look()
        self._context = server_context(tls)

    def context(self) -> ssl.SSLContext:
        """Return the context in force, from the files as they are now."""
        with self._lock:
            if self._look() != self._stamp:
                self._renew()
            return self._context

    def renew(self) -> None:
        """Read the files again, changed or not."""
        with self._lock:
            self._renew()

    def _renew(self) -> None:
        # The stamp first: what changes while we read is read again by the next connection.
        self._stamp = self._look()
        try:
            self._context = server_context(self._tls)
        except UnavailableError as error:
            logger.error("the certificate in force is kept: %s", error)  # noqa: TRY400 - one line
        else:
            logger.info("the certificate was read again: %s", self._tls.certificate)

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(path) for path in self._files]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - follows links, which is how many tools swap certificates
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
