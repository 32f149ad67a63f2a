"""Syslog messages and how they travel. Source: RFC 5424, 5425 (TLS) and 5426 (UDP); PS3.15 A.6 and A.7."""

import os
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from lungnode.errors import UnavailableError
from lungnode.settings import SyslogSettings
from lungnode.tls import client_context, trouble_of

AUDIT: Final = "DICOM+RFC3881"  # MSGID. Source: PS3.15 A.6
CHAIN: Final = "LUNGNODE-CHAIN"  # MSGID of the heads of our chain
_FACILITY: Final = 10  # security/authorization messages
_NOTICE: Final = 5
_WARNING: Final = 4
_APP_NAME: Final = "lungnode"
_BOM: Final = b"\xef\xbb\xbf"  # says that the message is UTF-8. Source: RFC 5424 6.4
_HOST_NAME: Final = 255  # characters
_REFUSAL_S: Final = 0.2


def encode(message_id: str, at: datetime, text: str, *, is_failure: bool = False) -> bytes:
    """Return a syslog message without its frame.

    Args:
        message_id: AUDIT or CHAIN.
        at: When it happened.
        text: What it says, on one line.
        is_failure: Whether it warns.
    """
    priority = 8 * _FACILITY + (_WARNING if is_failure else _NOTICE)
    time = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    host = socket.gethostname().encode("ascii", "replace").decode()[:_HOST_NAME] or "-"
    header = f"<{priority}>1 {time} {host} {_APP_NAME} {os.getpid()} {message_id} - "
    return header.encode("ascii") + _BOM + text.encode("utf-8", "replace")


def send(server: SyslogSettings, messages: Sequence[bytes]) -> None:
    """Send messages over a connection of their own; by TLS, return when the server has closed it behind them.

    Syslog has no acknowledgement, but a server that closes after our end of the stream has read what came
    before; one that dies resets the connection.

    Raises:
        UnavailableError: They may not have arrived.
    """
    place = f"The syslog server {server.host}:{server.port}"
    try:
        if server.transport == "udp":
            _send_datagrams(server, messages)
        else:
            _send_stream(server, b"".join(b"%d %b" % (len(each), each) for each in messages))
    except ssl.SSLError as error:  # an OSError, too
        raise UnavailableError(f"{place} cannot be used: {trouble_of(error).sentence}.") from error
    except OSError as error:
        raise UnavailableError(f"{place} cannot be used: {error.strerror or 'no answer in time'}.") from error


def probe(server: SyslogSettings) -> None:
    """Connect and close again; by UDP, only look for the address.

    Raises:
        UnavailableError: It is not there, or does not want us.
    """
    send(server, ())


def _send_stream(server: SyslogSettings, stream: bytes) -> None:
    tls = server.tls
    context = client_context(tls)
    host = str(server.host)
    with (
        socket.create_connection((host, server.port), timeout=server.timeout_s) as plain,
        context.wrap_socket(plain, server_hostname=tls.server_name or host) as connection,
    ):
        _wait_for_refusal(connection, server.timeout_s)
        connection.sendall(stream)
        _close_in_order(connection)


def _wait_for_refusal(connection: ssl.SSLSocket, timeout_s: float) -> None:
    """Give the server a moment to hang up: by TLS 1.3 it judges our certificate after our handshake.

    Raises:
        OSError: It does not want us.
    """
    connection.settimeout(_REFUSAL_S)
    with suppress(TimeoutError):
        if not connection.recv(1):
            raise ConnectionError(0, "it closes the connection, perhaps because of our certificate")
    connection.settimeout(timeout_s)


def _close_in_order(connection: ssl.SSLSocket) -> None:
    """Say that nothing more comes, and wait until the server has closed, too."""
    with suppress(ssl.SSLEOFError):  # some close without a word
        connection.unwrap()


def _send_datagrams(server: SyslogSettings, messages: Sequence[bytes]) -> None:
    address = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(address[0], socket.SOCK_DGRAM) as connection:
        connection.connect(address[4])
        for message in messages:
            connection.send(message)
