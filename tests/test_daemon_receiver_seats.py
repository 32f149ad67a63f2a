import os
import signal
import threading

import pytest

from daemon.receiver.pdu import Rejection
from daemon.receiver.seats import Limits, Seats

ONE, OTHER = "192.0.2.1", "192.0.2.2"


def seats(processes: int = 2, **changes: int) -> Seats:
    """Places without a limit but those given."""
    limits = {"connections": 9, "connections_of_address": 9, "associations": 9, "associations_of_address": 9}
    return Seats(processes, Limits(**(limits | changes)))


def entered(table: Seats, process: int = 0, address: str = ONE) -> int:
    place = table.enter(process, address)
    assert place is not None
    return place


def test_associations_are_limited_over_all_processes() -> None:
    table = seats(associations=2)
    places = [entered(table, process) for process in (0, 1, 1)]

    assert [table.take(place) for place in places] == [None, None, Rejection.LOCAL_LIMIT_EXCEEDED]
    table.give_back(places[0])
    assert table.take(places[2]) is None
    assert table.connections() == [1, 2]


def test_one_address_leaves_room_for_others() -> None:
    table = seats(associations_of_address=2, connections_of_address=4)
    places = [entered(table, 0, ONE) for _ in range(4)]

    assert [table.take(place) for place in places[:3]] == [None, None, Rejection.ADDRESS_LIMIT_EXCEEDED]
    assert table.enter(0, ONE) is None
    assert table.take(entered(table, 1, OTHER)) is None
    table.leave(places[0])
    assert table.take(entered(table, 0, ONE)) is None


@pytest.mark.parametrize(
    ("first", "second", "is_one"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_a_host_is_an_ipv4_address_or_an_ipv6_network(first: str, second: str, is_one: bool) -> None:
    table = seats(connections_of_address=1)
    entered(table, 0, first)

    assert (table.enter(0, second) is None) is is_one


def test_places_come_to_an_end() -> None:
    table = seats(connections=2)

    assert [table.enter(0, ONE), table.enter(1, OTHER), table.enter(0, "192.0.2.3")] == [0, 1, None]


def test_clearing_a_dead_process_frees_its_places_only() -> None:
    table = seats(associations=2)
    for process in (0, 1):
        table.take(entered(table, process))

    table.clear(0)

    assert table.connections() == [0, 1]
    places = [entered(table) for _ in range(2)]
    assert [table.take(place) for place in places] == [None, Rejection.LOCAL_LIMIT_EXCEEDED]


def test_threads_that_hurry_never_take_one_place_too_many() -> None:
    table = seats(processes=1, connections=50, connections_of_address=50)
    taken: list[int | None] = []
    threads = [
        threading.Thread(target=lambda: taken.extend(table.enter(0, ONE) for _ in range(10)))
        for _ in range(10)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(place for place in taken if place is not None) == list(range(50))


def test_a_process_that_is_killed_holding_the_lock_holds_up_nobody() -> None:
    table = seats()
    pid = os.fork()
    if pid == 0:
        with table._locked():
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)

    assert table.enter(0, ONE) == 0
