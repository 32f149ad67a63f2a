"""Peers that accept a connection and then do what no peer should."""

import socket
from collections.abc import Callable
from threading import active_count
from time import sleep

import pytest
from pydicom import dcmread

from db.models import DeliveryState, Output
from db.session import transaction
from tests.couriers import Courier, MakeCourier, accept_association, dimse, hostile
from tests.nodes import wait_for


def say_nothing(_connection: socket.socket) -> None:
    pass


def answer_the_association_with_half_a_pdu(connection: socket.socket) -> None:
    connection.sendall(b"\x02\0\0\0\0\xb8\0\x01")


def accept_and_then_read_nothing(connection: socket.socket) -> None:
    accept_association(connection)


def accept_and_read_in_sips(connection: socket.socket) -> None:
    accept_association(connection)
    for _ in range(30):  # longer than it is waited for, and less than is sent
        connection.recv(65_536)
        sleep(0.1)


def accept_and_answer_with_half_a_pdu(connection: socket.socket) -> None:
    accept_association(connection)
    connection.sendall(b"\x04\0\0\0\0\x64\0")


def accept_and_talk_nonsense(connection: socket.socket) -> None:
    accept_association(connection)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def accept_and_hang_up(connection: socket.socket) -> None:
    accept_association(connection)
    connection.shutdown(socket.SHUT_RDWR)


# pynetdicom's own thread dies of data that is to be sent while it waits for the end of a broken connection.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    "behave",
    [
        say_nothing,
        answer_the_association_with_half_a_pdu,
        accept_and_then_read_nothing,
        accept_and_read_in_sips,
        accept_and_answer_with_half_a_pdu,
        accept_and_talk_nonsense,
        accept_and_hang_up,
    ],
)
def test_a_hostile_peer_costs_one_attempt_and_no_thread(
    courier: MakeCourier, behave: Callable[[socket.socket], None]
) -> None:
    threads = active_count()

    with hostile(behave) as port:
        node, (sc,) = courier(port, "sc")
        make_large(node, "sc")  # more than the buffers of both sides hold
        node.destination = dimse(port, timeout_s=0.5)
        node.deliver(sc)

    row = node.row(sc)
    assert (row.state, row.attempts, row.lease_owner) == (DeliveryState.PENDING, 1, "")
    # The association's own threads notice its end within their time limits; one of an earlier test may have
    # ended meanwhile.
    wait_for(lambda: active_count() <= threads, what="the end of its threads")


def make_large(courier: Courier, group: str) -> None:
    with transaction(courier.engine) as session:
        path = courier.folder / "outputs" / session.query(Output).filter_by(group=group).one().path
    ds = dcmread(path)
    ds.private_block(0x0099, "TEST", create=True).add_new(0x01, "OB", bytes(30_000_000))
    ds.save_as(path)
