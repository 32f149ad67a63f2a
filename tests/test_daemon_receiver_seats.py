import os
import signal
import threading

from daemon.receiver.seats import Seats


def test_seats_are_limited_over_all_processes() -> None:
    seats = Seats(processes=2, limit=3)

    assert [seats.take(0), seats.take(1), seats.take(1), seats.take(0)] == [True, True, True, False]
    seats.give_back(1)
    assert [seats.take(0), seats.take(1)] == [True, False]


def test_clearing_a_dead_process_frees_its_seats_only() -> None:
    seats = Seats(processes=2, limit=2)
    seats.take(0)
    seats.take(1)
    seats.enter(0)
    seats.enter(1)

    seats.clear(0)

    assert seats.connections() == [0, 1]
    assert [seats.take(0), seats.take(0)] == [True, False]


def test_threads_that_hurry_never_take_one_seat_too_many() -> None:
    seats = Seats(processes=1, limit=50)
    taken: list[bool] = []
    threads = [
        threading.Thread(target=lambda: taken.extend(seats.take(0) for _ in range(10))) for _ in range(10)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(taken) == 50


def test_a_process_that_is_killed_holding_the_lock_holds_up_nobody() -> None:
    seats = Seats(processes=2, limit=2)
    pid = os.fork()
    if pid == 0:
        with seats._locked():
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)

    assert seats.take(0)
