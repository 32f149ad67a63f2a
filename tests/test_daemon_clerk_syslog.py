"""The audit trail reaches a real rsyslog, or waits in its rows."""

import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest
import trustme
from sqlalchemy import Engine

from daemon.clerk.auditing import Auditor
from daemon.clerk.syslog import AUDIT, CHAIN, encode, send
from db import audit
from db.audit_chain import verify
from db.models import AuditBatch
from db.session import transaction
from lungnode.audit import events
from lungnode.audit.events import Happening
from lungnode.audit.message import Outcome
from lungnode.cli._audit_checks import check_syslog
from lungnode.cli._check import Status
from lungnode.errors import UnavailableError
from lungnode.settings import AuditSettings, Settings, SyslogSettings
from lungnode.settings.tls import PeerTls
from tests.databases import new_sqlite
from tests.syslogd import PROGRAM, Syslogd, free_port, running_syslogd

NOON = datetime(2026, 3, 5, 12, 0, 0, 123456, tzinfo=UTC)
# Source: RFC 5424 6, the ABNF of SYSLOG-MSG with an empty STRUCTURED-DATA.
RFC_5424 = re.compile(
    rb"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z) ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) "
    rb"([!-~]{1,32}) - \xef\xbb\xbf(.*)"
)

needs_syslogd = pytest.mark.skipif(
    not Path(PROGRAM).exists() or not list(Path("/usr/lib").glob("*/rsyslog/lmnsd_gtls.so")),
    reason="rsyslog is absent: apt install rsyslog rsyslog-gnutls",
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = new_sqlite(f"sqlite:///{tmp_path / 'node.sqlite3'}")
    yield engine
    engine.dispose()


@dataclass
class Trail:
    """A node's audit trail, and its way to a server."""

    engine: Engine
    folder: Path
    server: SyslogSettings
    now: datetime = NOON

    def note(self, count: int) -> None:
        """Let something happen."""
        with transaction(self.engine) as session:
            for number in range(count):
                audit.record(session, "model promoted", f"model {number}", self.now)

    def round(self) -> None:
        """What a clerk does now and then."""
        settings = Settings(data=self.folder, audit=AuditSettings(syslog=self.server))
        Auditor(self.engine, settings).round(lambda: self.now)

    def batches(self) -> list[AuditBatch]:
        """What was chained."""
        with transaction(self.engine) as session:
            return list(session.query(AuditBatch).order_by(AuditBatch.id))


def parsed(message: bytes) -> tuple[int, str, str]:
    """Priority, MSGID and text."""
    found = RFC_5424.fullmatch(message)
    assert found, message[:200]
    return int(found[1]), found[6].decode(), found[7].decode("utf-8")


def test_a_message_is_rfc_5424() -> None:
    message = encode(AUDIT, NOON, "<AuditMessage>ä</AuditMessage>", is_failure=True)

    assert parsed(message) == (84, "DICOM+RFC3881", "<AuditMessage>ä</AuditMessage>")
    assert b" 2026-03-05T12:00:00.123Z " in message
    assert parsed(encode(CHAIN, NOON, "head"))[:2] == (85, "LUNGNODE-CHAIN")


@needs_syslogd
def test_events_and_heads_reach_the_server_over_tls(engine: Engine, tmp_path: Path) -> None:
    with running_syslogd(tmp_path / "syslog") as server:
        trail = Trail(engine, tmp_path, server.settings())
        trail.note(2)
        with transaction(engine) as session:
            who = events.person("mallory", "10.0.0.66")
            audit.note(session, Happening("sign-in failed", "10.0.0.66", NOON, who, Outcome.MINOR_FAILURE))
        trail.round()
        trail.round()  # nothing is left to send
        got = [parsed(message) for message in server.messages(4)]

    assert [(priority, kind) for priority, kind, _ in got] == [(85, AUDIT)] * 2 + [(84, AUDIT), (85, CHAIN)]
    assert all(fromstring(text).tag == "AuditMessage" for _, kind, text in got if kind == AUDIT)  # noqa: S314
    head = re.search(r" head=(\w{64}) ", got[-1][2])
    assert head
    assert verify(engine, head[1]).problems == []
    (batch,) = trail.batches()
    assert (batch.state, batch.attempts, batch.finished_at, batch.reason) == ("sent", 1, NOON, "")


@needs_syslogd
def test_a_dead_server_costs_nothing_and_gets_everything_in_order_when_it_is_back(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    authority = tmp_path / "syslog/authority.pem"
    authority.parent.mkdir()
    trustme.CA().cert_pem.write_to_path(authority)
    server = SyslogSettings(host="127.0.0.1", port=port, tls=PeerTls(authorities=authority))
    trail = Trail(engine, tmp_path, server)

    for number in range(3):
        trail.note(1)
        trail.round()
        trail.now += timedelta(seconds=1 + number)
    first, *others = trail.batches()
    assert (first.state, first.attempts) == ("pending", 1)  # its second attempt is due 5 s after the first
    assert first.reason == f"The syslog server 127.0.0.1:{port} cannot be used: Connection refused."
    assert [batch.attempts for batch in others] == [0, 0]

    with running_syslogd(tmp_path / "syslog", port=port) as running:
        trail.server = running.settings()
        trail.now += timedelta(minutes=10)
        trail.round()
        chained = [text for _, kind, text in map(parsed, running.messages(6)) if kind == CHAIN]

    assert [text.partition(" ")[0] for text in chained] == ["batch=1", "batch=2", "batch=3"]
    assert caplog.text.count("audit messages wait in the database") == 1


@needs_syslogd
def test_clerks_that_send_at_once_send_nothing_twice(engine: Engine, tmp_path: Path) -> None:
    with running_syslogd(tmp_path / "syslog") as server:
        trail = Trail(engine, tmp_path, server.settings())
        for _ in range(4):
            trail.note(1)
            trail.server = SyslogSettings()
            trail.round()
        trail.server = server.settings()
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda _: trail.round(), range(3)))
        trail.round()
        server.messages(8)

    assert [batch.attempts for batch in trail.batches()] == [1, 1, 1, 1]
    assert len((server.folder / "messages").read_bytes().splitlines()) == 8


@needs_syslogd
def test_a_server_gets_them_over_udp(tmp_path: Path) -> None:
    with running_syslogd(tmp_path, udp=True) as server:
        send(server.settings(transport="udp"), [encode(AUDIT, NOON, "<AuditMessage/>")])

        assert parsed(server.messages(1)[0]) == (85, AUDIT, "<AuditMessage/>")


@needs_syslogd
def test_a_message_of_32_kilobytes_arrives_whole(tmp_path: Path) -> None:
    text = f"<AuditMessage>{'ä' * 16_384}</AuditMessage>"  # Source: PS3.15 A.6, at least 32768 octets

    with running_syslogd(tmp_path) as server:
        send(server.settings(), [encode(AUDIT, NOON, text)])

        assert parsed(server.messages(1)[0])[2] == text


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Syslogd]:
    """A server that asks for a certificate of its own authority."""
    folder = tmp_path_factory.mktemp("strict")
    with running_syslogd(folder, authentication="x509/certvalid") as server:
        yield server


@needs_syslogd
def test_a_server_that_asks_for_our_certificate_gets_it(strict: Syslogd) -> None:
    ours = strict.authority.issue_cert("node.example")
    ours.private_key_and_cert_chain_pem.write_to_path(strict.folder / "ours.pem")
    tls = PeerTls(authorities=strict.folder / "authority.pem", certificate=strict.folder / "ours.pem")

    send(strict.settings(tls=tls), [encode(AUDIT, NOON, "<AuditMessage/>")])

    assert len(strict.messages(1)) == 1


@needs_syslogd
@pytest.mark.parametrize(
    ("tls", "reason"),
    [
        (
            lambda folder: PeerTls(authorities=folder / "authority.pem"),
            "it closes the connection|certificate|reset by peer",
        ),
        (lambda _: PeerTls(), "its certificate comes from an authority that we do not know"),
        (
            lambda folder: PeerTls(authorities=folder / "authority.pem", server_name="other.example"),
            "its certificate bears another name",
        ),
    ],
)
def test_what_keeps_two_sides_apart_is_said(
    strict: Syslogd, tls: Callable[[Path], PeerTls], reason: str
) -> None:
    with pytest.raises(UnavailableError, match=reason):
        send(strict.settings(tls=tls(strict.folder)), [encode(AUDIT, NOON, "<AuditMessage/>")])


@needs_syslogd
def test_check_says_whether_the_server_is_there(strict: Syslogd, tmp_path: Path) -> None:
    def checked(server: SyslogSettings) -> list[tuple[str, str]]:
        settings = Settings(data=tmp_path, audit=AuditSettings(syslog=server))
        return [(check.status, check.message) for check in check_syslog(settings)]

    (wrong,) = checked(strict.settings(tls=PeerTls()))
    ours = strict.authority.issue_cert("node.example")
    ours.private_key_and_cert_chain_pem.write_to_path(strict.folder / "checked.pem")
    tls = PeerTls(authorities=strict.folder / "authority.pem", certificate=strict.folder / "checked.pem")
    (good,) = checked(strict.settings(tls=tls))

    assert wrong[0] == Status.WRONG
    assert "an authority that we do not know" in wrong[1]
    assert good == (Status.OK, f"127.0.0.1:{strict.port} by tls is there.")
    assert checked(SyslogSettings()) == []


@contextmanager
def scripted(folder: Path, serve: Callable[[ssl.SSLSocket], object]) -> Iterator[SyslogSettings]:
    """A TLS server that does with one connection what no real one does when asked."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    over = threading.Event()

    def run(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        # The client may give up before they have shaken hands.
        with suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
            serve(secured)
            over.wait(30)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run, args=(listener,), daemon=True)
        thread.start()
        tls = PeerTls(authorities=folder / "authority.pem")
        yield SyslogSettings(host="127.0.0.1", port=listener.getsockname()[1], tls=tls, timeout_s=1.0)
        over.set()
        thread.join(10)


def read_and_die(connection: ssl.SSLSocket) -> None:
    connection.recv(4)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def read_and_be_silent(connection: ssl.SSLSocket) -> None:
    while connection.recv(65536):
        pass


@pytest.mark.parametrize("serve", [read_and_die, read_and_be_silent])
def test_what_may_not_have_arrived_is_sent_again(
    serve: Callable[[ssl.SSLSocket], object], engine: Engine, tmp_path: Path
) -> None:
    with scripted(tmp_path, serve) as server:
        trail = Trail(engine, tmp_path, server)
        trail.note(1)
        trail.round()

    (batch,) = trail.batches()
    assert (batch.state, batch.attempts) == ("pending", 1)
    assert "cannot be used" in batch.reason
