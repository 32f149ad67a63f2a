import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lungnode.cli._programs import check_programs, running_programs
from lungnode.pulse import ALIVE_S, PROGRAMS, Pulse, file_of, what_is_wrong
from tests.nodes import lungnode, stop, variables, wait_for


def health(data: Path, *arguments: str) -> tuple[int, str]:
    """Ask as a supervisor does."""
    done = subprocess.run(
        [sys.executable, "-m", "lungnode.pulse", *arguments],
        env=variables({"LUNGNODE_DATA": str(data)}),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_program_that_gave_no_sign_of_life_is_not_alive(tmp_path: Path) -> None:
    assert health(tmp_path, "clerk") == (1, "clerk gave no sign of life.\n")


def test_a_program_that_waits_is_alive_and_not_ready(tmp_path: Path) -> None:
    Pulse(tmp_path, "clerk").beat(waiting="the database")

    assert health(tmp_path, "clerk") == (0, "")
    assert health(tmp_path, "--ready", "clerk") == (1, "clerk waits: the database.\n")


def test_a_program_that_fell_silent_is_not_alive(tmp_path: Path) -> None:
    Pulse(tmp_path, "receive").beat()
    path = file_of(tmp_path, "receive")
    long_ago = time.time() - ALIVE_S - 10
    os.utime(path, (long_ago, long_ago))

    assert what_is_wrong(path, ready=False).startswith("gave no sign of life for 7")


def test_without_news_the_words_stay_and_the_time_goes_on(tmp_path: Path) -> None:
    pulse = Pulse(tmp_path, "clerk")
    pulse.beat(waiting="the database")
    path = file_of(tmp_path, "clerk")
    os.utime(path, (0, 0))
    pulse._not_before = 0.0

    pulse.beat()

    assert what_is_wrong(path, ready=False) == ""
    assert what_is_wrong(path, ready=True) == "waits: the database"


def test_check_names_what_waits_and_what_fell_silent(tmp_path: Path) -> None:
    for program, waiting in (("clerk", "the database"), ("web", ""), ("receive", "")):
        Pulse(tmp_path, program).beat(waiting=waiting)
    long_ago = time.time() - 2 * ALIVE_S
    os.utime(file_of(tmp_path, "receive"), (long_ago, long_ago))

    found = {check.name: check.message for check in check_programs(tmp_path)}

    host = socket.gethostname()
    assert found[f"clerk-{host}"] == "It waits: the database."
    assert found[f"receive-{host}"].startswith("It gave no sign of life for ")
    assert running_programs(tmp_path) == [f"clerk-{host}", f"web-{host}"]
    assert len(found) == 2


def test_who_was_silent_for_a_day_is_forgotten(tmp_path: Path) -> None:
    for program, silent_s in (("web", 80_000), ("receive", 90_000)):
        Pulse(tmp_path, program).beat()
        then = time.time() - silent_s
        os.utime(file_of(tmp_path, program), (then, then))

    Pulse(tmp_path, "clerk").beat()

    assert not file_of(tmp_path, "receive").exists()
    assert file_of(tmp_path, "web").exists()


def test_a_program_that_ends_on_purpose_leaves_nothing(tmp_path: Path) -> None:
    pulse = Pulse(tmp_path, "clerk")
    pulse.beat()

    pulse.end()

    assert list((tmp_path / "health").iterdir()) == []


def test_a_folder_that_cannot_be_written_stops_no_program(tmp_path: Path) -> None:
    (tmp_path / "health").touch()

    Pulse(tmp_path, "clerk").beat()


@pytest.mark.parametrize("arguments", [(), ("nobody",), ("clerk", "receive")])
def test_wrong_use_is_told(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code, told = health(tmp_path, *arguments)

    assert code == 2
    assert all(program in told for program in PROGRAMS)


def test_systemd_is_told_of_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        pulse = Pulse(tmp_path, "clerk")
        pulse.beat(waiting="the database")
        assert systemd.recv(1000) == b"READY=1\nWATCHDOG=1\nSTATUS=waits: the database"
        pulse.beat(waiting="")
        assert systemd.recv(1000) == b"READY=1\nWATCHDOG=1\nSTATUS=ready"


def test_every_program_of_a_node_gives_signs_of_life_and_none_is_left_when_it_stops(tmp_path: Path) -> None:
    environment = {"LUNGNODE_RECEIVER__PORT": "0", "LUNGNODE_RECEIVER__HOST": "127.0.0.1"}
    environment |= {"LUNGNODE_WEB__PORT": "0", "LUNGNODE_WEB__ENABLED": "true"}
    with lungnode(tmp_path, "up", environment=environment) as node:
        files = [file_of(tmp_path, program) for program in PROGRAMS]
        wait_for(
            lambda: not any(what_is_wrong(file, ready=True) for file in files),
            limit_s=120,
            what="all of them",
        )
        assert stop(node) == 0

    assert list((tmp_path / "health").iterdir()) == []


def test_a_clerk_without_its_database_is_alive_and_says_what_it_waits_for(tmp_path: Path) -> None:
    environment = {"LUNGNODE_DATABASE_URL": "postgresql://lungnode@127.0.0.1:1/lungnode"}
    with lungnode(tmp_path, "clerk", environment=environment):
        wait_for(lambda: health(tmp_path, "clerk")[0] == 0, limit_s=60, what="the clerk")

        code, told = health(tmp_path, "--ready", "clerk")

    assert code == 1
    assert told.startswith("clerk waits: The database postgresql+psycopg://lungnode@127.0.0.1:1/lungnode is")
