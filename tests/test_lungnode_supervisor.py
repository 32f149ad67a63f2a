import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest

from lungnode.errors import UnavailableError
from lungnode.supervisor import Role, Supervisor, sole_owner
from tests.nodes import children, lives, variables, wait_for

SLEEPER = Role("sleeper", ("sleep", "1000"))
STUBBORN = """
import signal, subprocess, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(("sleep", "1000"))
Path("{ready}").touch()
time.sleep(1000)
"""
WITNESS = """
import signal, sys, time
def say(word):
    with open("{order}", "a") as file:
        file.write(word + chr(10))
def end(*_):
    time.sleep(0.2)
    say(sys.argv[1])
    sys.exit()
signal.signal(signal.SIGTERM, end)
say("ready")
time.sleep(1000)
"""


@dataclass
class Clock:
    """Time that a test moves."""

    now: float = 0.0
    step: float = 0.0  # how far each reading moves it

    def __call__(self) -> float:
        """Read it."""
        self.now += self.step
        return self.now


STRANGERS: set[int] = set()


@pytest.fixture(autouse=True)
def _know_strangers() -> None:
    """Know the children that tests before these left: a pool of processes, say."""
    STRANGERS.clear()
    STRANGERS.update(children(os.getpid()))


def living() -> set[int]:
    return set(children(os.getpid())) - STRANGERS


def ended() -> bool:
    """Tell whether a child of ours waits to be noticed. Source: proc(5), state Z."""
    return any("Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2] for pid in living())


def test_a_child_that_dies_is_started_again_after_ever_longer_waits() -> None:
    clock = Clock()
    supervisor = Supervisor([Role("short-lived", ("false",))], clock)
    supervisor.look()
    for wait_s in (0.5, 1, 2, 4, 8, 8):
        wait_for(ended, what="the child's end")
        supervisor.look()  # notices it
        clock.now += wait_s - 0.25
        supervisor.look()
        assert not living()
        clock.now += 0.25
        supervisor.look()
        assert living()
    supervisor.stop()


def test_a_child_that_lived_long_is_started_again_soon() -> None:
    clock = Clock()
    supervisor = Supervisor([SLEEPER], clock)
    supervisor.look()
    for _ in range(3):
        clock.now += 20
        os.kill(living().pop(), signal.SIGKILL)
        wait_for(ended, what="the child's end")
        supervisor.look()
        clock.now += 0.5
        supervisor.look()
        assert living()
    supervisor.stop()


def test_all_children_end_with_the_supervisor_and_run_until_then() -> None:
    stopping, seen = Event(), []

    def look() -> None:
        seen.append(len(living()))
        stopping.set()

    Supervisor([SLEEPER, SLEEPER]).run(stopping, look)

    assert (seen, living()) == ([2], set())


def test_a_child_that_ignores_sigterm_is_killed_with_its_own_children(tmp_path: Path) -> None:
    program = tmp_path / "stubborn.py"
    program.write_text(STUBBORN.format(ready=tmp_path / "ready"))
    supervisor = Supervisor([Role("stubborn", (sys.executable, str(program)))], Clock(step=10.0))
    supervisor.look()
    wait_for((tmp_path / "ready").exists, what="the child")
    grandchildren = [pid for child in living() for pid in children(child)]

    supervisor.stop()

    assert living() == set()
    wait_for(lambda: not any(lives(pid) for pid in grandchildren), what="the grandchildren's end")
    assert len(grandchildren) == 1


def test_what_serves_the_others_ends_after_them(tmp_path: Path) -> None:
    order = tmp_path / "order"
    program = tmp_path / "witness.py"
    program.write_text(WITNESS.format(order=order))
    roles = [
        Role(name, (sys.executable, str(program), name), serves_others=name == "broker")
        for name in ("broker", "worker", "clerk")
    ]
    supervisor = Supervisor(roles)
    supervisor.look()
    wait_for(lambda: order.exists() and order.read_text().count("ready") == 3, what="the children")

    supervisor.stop()

    assert order.read_text().split()[-1] == "broker"


def test_children_do_not_outlive_a_supervisor_that_is_killed() -> None:
    code = (
        "from threading import Event; from lungnode.supervisor import Role, Supervisor; "
        "Supervisor([Role('sleeper', ('sleep', '1000'))]).run(Event())"
    )
    with subprocess.Popen((sys.executable, "-c", code), env=variables()) as supervisor:
        orphan = wait_for(lambda: next(iter(children(supervisor.pid)), None), what="the child")
        supervisor.kill()

    wait_for(lambda: not lives(orphan), what="the child's end")


def test_a_folder_has_one_owner_who_is_named_and_the_next_after_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    refused = pytest.raises(UnavailableError, match=f"process {os.getpid()}")

    with sole_owner(data), refused, sole_owner(data):
        pass
    with sole_owner(data):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    refused = pytest.raises(UnavailableError, match="file/data cannot be written: Not a directory")
    with refused, sole_owner(tmp_path / "file/data"):
        pass
