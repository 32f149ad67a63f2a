"""A few seconds of what `benchmarks.hostile` does to a receiver for many minutes."""

import socket
import ssl
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path

import pytest

from daemon.receiver.dimse import Status
from tests.dicom_wire import Peer, associate_request, commitment_command, pdu, pdv, store_command
from tests.hostile.attack import attack
from tests.hostile.crowd import Crowd
from tests.hostile.grammar import CONTEXTS
from tests.hostile.honest import Honest
from tests.hostile.tls import attack_tls, tls_receiver
from tests.hostile.watch import Watch
from tests.receiving import RunningReceiver, an_instance, running_receiver

SEED = 1
ATTEMPTS = 1_000


@pytest.fixture(scope="module")
def receiver_and_context(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[RunningReceiver, ssl.SSLContext]]:
    with tls_receiver(tmp_path_factory.mktemp("receiver")) as running:
        yield running


@pytest.fixture
def receiver(receiver_and_context: tuple[RunningReceiver, ssl.SSLContext]) -> RunningReceiver:
    return receiver_and_context[0]


def test_bad_pdus_end_their_connection_at_most_and_others_are_served(receiver: RunningReceiver) -> None:
    watch = Watch.begin(receiver)
    with Honest(receiver) as honest:
        outcome = attack(receiver.port, SEED, range(ATTEMPTS))

    assert (outcome.sent, outcome.hung) == (ATTEMPTS, [])
    assert outcome.over_association > ATTEMPTS * 0.45
    assert honest.problems() == []
    assert watch.problems() == []


def test_bad_handshakes_and_what_comes_behind_good_ones_is_no_different(
    receiver_and_context: tuple[RunningReceiver, ssl.SSLContext],
) -> None:
    receiver, context = receiver_and_context
    watch = Watch.begin(receiver)
    with Honest(receiver) as honest:
        outcome = attack_tls(receiver.tls_port, context, SEED, range(300))

    assert (outcome.sent, outcome.hung) == (300, [])
    assert outcome.over_association > 50
    assert honest.problems() == []
    assert watch.problems() == []


def test_connections_that_say_nothing_leave_nothing(receiver: RunningReceiver) -> None:
    watch = Watch.begin(receiver)
    with Honest(receiver) as honest:
        for _ in range(1_000):
            socket.create_connection(("127.0.0.1", receiver.port)).close()

    assert honest.problems() == []
    assert watch.problems() == []


def test_64_associations_at_once_lose_nothing_that_was_acknowledged(receiver: RunningReceiver) -> None:
    found = Crowd(receiver, 64, size=20_000).send(640)

    assert found["problems"] == []
    assert found["acknowledged"] == 640


def test_peers_that_send_a_byte_now_and_then_are_ended_and_others_are_served(
    tmp_path: Path,
) -> None:
    with (
        running_receiver(tmp_path, artim_s=5) as receiver,
        ExitStack() as stack,
    ):
        watch = Watch.begin(receiver)
        slow = [stack.enter_context(receiver.connect()) for _ in range(50)]
        with Honest(receiver, pause_s=0.05) as honest:
            _dribble(slow)

        assert honest.problems() == []
        assert watch.problems() == []


def _dribble(peers: list[Peer]) -> None:
    """Send each peer's request byte by byte, in turn, until the receiver has ended all of them."""
    request = associate_request()
    deadline = time.monotonic() + 60
    for byte in cycle(range(len(request))):
        for peer in list(peers):
            try:
                peer.send(request[byte : byte + 1])
            except ConnectionError:
                peers.remove(peer)
        if not peers:
            return
        assert time.monotonic() < deadline, f"{len(peers)} are still there"
        time.sleep(0.1)


@pytest.mark.parametrize("what", ["PDV", "PDU"])
def test_a_huge_length_takes_no_memory_before_the_bytes_come(receiver: RunningReceiver, what: str) -> None:
    watch = Watch.begin(receiver)
    with ExitStack() as stack:
        for _ in range(20):
            peer = stack.enter_context(receiver.connect())
            peer.associate()
            body = pdv(1, 3, store_command(an_instance()))
            length = 0xFFFFFFFF if what == "PDU" else len(body) + 100
            claim = b"\xff\xff\xff\xff" if what == "PDV" else (1_000_002).to_bytes(4, "big")
            peer.send(b"\x04\0" + length.to_bytes(4, "big") + body + claim + b"\x01\x02")
            assert peer.read_pdu()[0] == 7
        for pid, now in watch.now().items():
            assert now.resident_kb - watch.before[pid].resident_kb < 40_000

    assert watch.problems() == []


def test_a_commitment_request_of_nothing_but_items_keeps_nobody_waiting(receiver: RunningReceiver) -> None:
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 500_000
    data_set = struct.pack("<HH2sxxI", 0x0008, 0x1199, b"SQ", len(items)) + items
    with Honest(receiver) as honest, receiver.connect() as peer:
        peer.associate(CONTEXTS)
        peer.send(pdu(4, pdv(7, 3, commitment_command(0x0130))))
        for start in range(0, len(data_set), 200_000):
            last = 2 if start + 200_000 >= len(data_set) else 0
            peer.send(pdu(4, pdv(7, last, data_set[start : start + 200_000])))

        response = peer.read_response()

    assert int.from_bytes(response[0x0900], "little") == Status.INVALID_ARGUMENT_VALUE
    assert response[0x0902].startswith(b"The sequences have more items")
    assert honest.problems() == []


def test_a_host_that_takes_all_it_can_get_leaves_room_for_others(tmp_path: Path) -> None:
    with running_receiver(tmp_path, artim_s=60) as receiver, ExitStack() as stack:
        greedy = [stack.enter_context(Peer(receiver.port, source="127.0.0.9")) for _ in range(64)]
        for peer in greedy:
            peer.associate()
        silent = [stack.enter_context(Peer(receiver.port, source="127.0.0.9")) for _ in range(40)]
        receiver.wait_for_log("connection of 127.0.0.9 closed")
        silent[0].send(associate_request())
        assert silent[0].read_pdu() == (3, bytes((0, 2, 3, 2)))

        with Honest(receiver) as honest:
            assert all(peer.echo() == Status.SUCCESS for peer in greedy)

        assert honest.problems() == []
