import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.dicom_wire import Peer, associate_request
from tests.hostile.proxied import SIGNATURE, version_2
from tests.receiving import RunningReceiver, running_receiver

ASSOCIATE_AC, ASSOCIATE_RJ, A_ABORT = 2, 3, 7


def tcp4(client: str, extensions: bytes = b"") -> bytes:
    addresses = socket.inet_aton(client) + socket.inet_aton("192.0.2.1") + struct.pack(">HH", 40000, 104)
    return version_2(0x21, 0x11, addresses + extensions)


def tcp6(client: str) -> bytes:
    addresses = socket.inet_pton(socket.AF_INET6, client) + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    return version_2(0x21, 0x21, addresses + struct.pack(">HH", 40000, 104))


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningReceiver]:
    """A receiver behind proxies of this host, for scanners of two networks."""
    networks = ["198.51.100.0/24", "2001:db8:5::/48"]
    with running_receiver(
        tmp_path_factory.mktemp("proxied"), proxies=["127.0.0.0/28"], networks=networks
    ) as receiver:
        yield receiver


def answer(receiver: RunningReceiver, *parts: bytes, source: str = "127.0.0.1") -> int:
    with Peer(receiver.port, source=source) as peer:
        for part in parts:
            peer.send(part)
        return peer.read_pdu()[0]


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 198.51.100.7 192.0.2.1 40000 104\r\n",
        b"PROXY TCP6 2001:db8:5::7 2001:db8::1 40000 104\r\n",
        tcp4("198.51.100.7"),
        tcp4("198.51.100.7", extensions=b"\x04\x00\x01x"),
        tcp6("2001:db8:5::7"),
    ],
)
def test_admission_looks_at_the_address_behind_the_proxy(receiver: RunningReceiver, header: bytes) -> None:
    assert answer(receiver, header, associate_request()) == ASSOCIATE_AC


def test_a_header_may_come_in_pieces(receiver: RunningReceiver) -> None:
    header = tcp4("198.51.100.7")

    assert answer(receiver, header[:5], header[5:20], header[20:] + associate_request()) == ASSOCIATE_AC


@pytest.mark.parametrize(
    "header",
    [
        tcp4("203.0.113.7"),
        b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 104\r\n",
        # The proxy speaks for itself or knows nobody, so it is its own address that counts.
        version_2(0x20, 0x00, b""),
        version_2(0x21, 0x00, b""),
        b"PROXY UNKNOWN\r\n",
    ],
)
def test_who_is_not_in_the_networks_is_rejected(receiver: RunningReceiver, header: bytes) -> None:
    assert answer(receiver, header, associate_request()) == ASSOCIATE_RJ


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"PROXY TCP4 nobody 192.0.2.1 40000 104\r\n",
        b"PROXY TCP4\r\n" + b" " * 20,
        b"PROXY " + b"x" * 200,
        version_2(0x31, 0x11, b"\0" * 12),
        version_2(0x25, 0x11, b"\0" * 12),
        version_2(0x21, 0x11, b"\0" * 11),
        SIGNATURE + b"\x21\x11\xff\xff",
    ],
)
def test_a_listed_proxy_without_a_header_that_can_be_read_is_cut_off(
    receiver: RunningReceiver, header: bytes
) -> None:
    assert answer(receiver, header + associate_request()) == A_ABORT


def test_nobody_else_can_claim_an_address(receiver: RunningReceiver) -> None:
    assert answer(receiver, tcp4("198.51.100.7") + associate_request(), source="127.0.0.77") == A_ABORT


def test_without_a_listed_proxy_nothing_changes(tmp_path: Path) -> None:
    with running_receiver(tmp_path) as receiver:
        assert answer(receiver, associate_request()) == ASSOCIATE_AC


def test_associations_are_counted_by_the_address_behind_the_proxy(tmp_path: Path) -> None:
    limits = {"proxies": ["127.0.0.1/32"], "max_associations_per_address": 1}
    with running_receiver(tmp_path, **limits) as receiver, ExitStack() as open_ones:

        def answer_of(client: str) -> int:
            peer = open_ones.enter_context(Peer(receiver.port))
            peer.send(tcp4(client) + associate_request())
            return peer.read_pdu()[0]

        assert [answer_of(f"198.51.100.{host}") for host in (1, 2, 3)] == [ASSOCIATE_AC] * 3
        assert answer_of("198.51.100.2") == ASSOCIATE_RJ


def test_more_connections_than_one_address_may_have_come_through_a_proxy(tmp_path: Path) -> None:
    limits = {"proxies": ["127.0.0.1/32"], "max_associations_per_address": 1}
    with running_receiver(tmp_path, **limits) as receiver, ExitStack() as open_ones:
        for _ in range(40):  # an address of its own has one, and 32 more
            open_ones.enter_context(Peer(receiver.port))

        assert answer(receiver, tcp4("198.51.100.7") + associate_request()) == ASSOCIATE_AC
