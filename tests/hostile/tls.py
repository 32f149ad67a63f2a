"""The same attempts on the port with TLS: bad handshakes, and bad PDUs behind a good handshake."""

import socket
import ssl
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.certificates import Authority
from tests.dicom_wire import associate_request
from tests.hostile.attack import LIMIT_S, Outcome, drained, source
from tests.hostile.grammar import attempt
from tests.hostile.mutation import chance_of, damage
from tests.receiving import PROGRAM, RunningReceiver, running_receiver

_ASSOCIATE_AC: Final = 2
_EVERY_BROKEN: Final = 7
_PLAIN: Final = associate_request()  # which is a good one, and without TLS


@contextmanager
def tls_receiver(
    folder: Path, command: Sequence[str] = (sys.executable, "-c", PROGRAM), **settings: Any
) -> Iterator[tuple[RunningReceiver, ssl.SSLContext]]:
    """Run a receiver with both ports, and say how a welcome peer encrypts."""
    authority = Authority(folder / "authority")
    ours, theirs = authority.sign("localhost"), authority.sign("peer.example.org")
    context = ssl.create_default_context(cafile=authority.file)
    context.load_cert_chain(theirs.certificate, theirs.key)
    tls = {
        "port": 0,
        "certificate": str(ours.certificate),
        "private_key": str(ours.key),
        "authorities": str(authority.file),
        "subjects": {"BOUND": "another.example.org"},
    }
    with running_receiver(folder, None, command, tls=tls, **settings) as receiver:
        yield receiver, context


def attack_tls(port: int, context: ssl.SSLContext, seed: int, numbers: Iterable[int]) -> Outcome:
    """Send attempts; every third one is a bad handshake, the others come behind a good one."""
    outcome = Outcome()
    hello = client_hello(context)
    for number in numbers:
        started = time.monotonic()
        if number % 3 == 0:
            chance = chance_of(seed, number)
            answer = _send(port, number, damage(chance.choice((hello, hello, _PLAIN)), chance, number % 4))
        else:
            answer = _send_encrypted(port, number, context, seed, hello)
        outcome.sent += 1
        outcome.longest_s = max(outcome.longest_s, time.monotonic() - started)
        if answer is None:
            outcome.hung.append(number)
        else:
            outcome.over_association += answer[:1] == bytes([_ASSOCIATE_AC])
            outcome.answers["handshake" if number % 3 == 0 else "encrypted"] += 1
    return outcome


def client_hello(context: ssl.SSLContext) -> bytes:
    """Return the first message of a handshake."""
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake without an answer")


def _send(port: int, number: int, data: bytes) -> bytes | None:
    with _connected(port, number) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return drained(connection)
        except TimeoutError:
            return None
        except OSError:
            return b""


def _send_encrypted(port: int, number: int, context: ssl.SSLContext, seed: int, hello: bytes) -> bytes | None:
    made = attempt(seed, number)
    with _connected(port, number) as connection:
        try:
            with context.wrap_socket(connection, server_hostname="localhost") as encrypted:
                encrypted.sendall(made.before + made.bad)
                if number % _EVERY_BROKEN == 1:  # what comes next is no record of this connection
                    socket.socket.sendall(encrypted, damage(hello, chance_of(seed, number)))
                socket.socket.shutdown(encrypted, socket.SHUT_WR)  # its own would forget the keys
                return drained(encrypted)
        except TimeoutError:
            return None
        except OSError:
            return b""


@contextmanager
def _connected(port: int, number: int) -> Iterator[socket.socket]:
    with socket.socket() as connection:
        connection.settimeout(LIMIT_S)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        connection.bind(source(number))
        connection.connect(("127.0.0.1", port))
        yield connection
