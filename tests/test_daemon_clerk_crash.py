"""The clerk is killed between any two of its steps, and by a real kill -9; nothing is lost or doubled."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from db.models import Correction, Disposition, Instance, Quarantined, Withdrawal
from db.session import open_engine, upgrade
from lungnode.errors import UnavailableError
from lungnode.settings import Settings
from tests.databases import new_sqlite
from tests.rejecting import note
from tests.spooling import ClerkNode, ct, slices


class KilledError(BaseException):
    """Stands for the end of the process: nothing catches it."""


def kill_at(engine: Engine, step: str, number: int) -> Callable[[], None]:
    """Die at the `number`th step of a kind (begin or commit of a transaction); returns what ends that."""
    passed = Counter[str]()

    def die(_connection: object) -> None:
        passed[step] += 1
        if passed[step] == number:
            raise KilledError

    event.listen(engine, step, die)
    return lambda: event.remove(engine, step, die)


def fill(node: ClerkNode) -> None:
    node.sender("a1").send(*slices(range(1, 4)), ct(1), ct(2, PixelData=bytes(32))).release()
    bad = node.sender("a2").send(ct(4))
    bad.put(lambda path: path.write_text("no DICOM"))
    bad.release()
    node.sender("a3").send(note("113001", [ct(3)]), ct(5, PatientID="4712")).release()


def state(node: ClerkNode) -> tuple[object, ...]:
    instances = Counter((row.sop_instance_uid, row.disposition) for row in node.rows(Instance))
    quarantined = sorted(row.path for row in node.rows(Quarantined))
    withdrawn = sorted(row.sop_instance_uid for row in node.rows(Withdrawal))
    corrected = [row.attributes for row in node.rows(Correction)]
    return instances, quarantined, withdrawn, corrected, sorted(node.archived().values())


@pytest.mark.parametrize("step", ["begin", "commit"])
def test_a_clerk_killed_at_any_transaction_leaves_what_the_next_one_finishes(
    clerk_node: ClerkNode, step: str, tmp_path: Path
) -> None:
    # What an undisturbed clerk makes of the same files.
    calm_engine = open_engine(f"sqlite:///{tmp_path}/calm.sqlite3")
    upgrade(calm_engine)
    calm = ClerkNode(calm_engine, Settings(data=tmp_path / "calm"))
    fill(calm)
    calm.clerk.round()
    calm_engine.dispose()

    fill(clerk_node)
    deaths = 0
    for number in range(1, 30):
        clerk_node.restart()
        revive = kill_at(clerk_node.engine, step, number)
        try:
            clerk_node.clerk.round()
        except KilledError:
            deaths += 1
        finally:
            revive()
    clerk_node.restart()
    clerk_node.clerk.round()

    assert deaths >= 3
    assert state(clerk_node) == state(calm)
    assert list(clerk_node.settings.spool.iterdir()) == []


def test_a_clerk_killed_after_its_commit_finds_its_own_instances_in_the_spool_again(
    clerk_node: ClerkNode,
) -> None:
    sender = clerk_node.sender().send(*slices((1, 2)))
    kept = [(path, path.read_bytes()) for path in sender.folder.glob("*.dcm")]
    clerk_node.clerk.round()
    for path, content in kept:  # as if it had died before the unlink
        path.write_bytes(content)

    clerk_node.clerk.round()

    assert [row.disposition for row in clerk_node.rows(Instance)] == [Disposition.ARCHIVED] * 2
    assert not list(sender.folder.glob("*.dcm"))
    sender.lose()


@pytest.mark.parametrize("left", [["association.json"], ["ended.json", "association.json"], []])
def test_a_folder_whose_removal_was_cut_short_is_removed(clerk_node: ClerkNode, left: list[str]) -> None:
    sender = clerk_node.sender().send(ct())
    sender.release()
    clerk_node.clerk.round()
    sender.folder.mkdir()
    for name in left:
        (sender.folder / name).write_text("{}")
    os.utime(sender.folder, (0, 0))

    clerk_node.clerk.round()

    assert not sender.folder.exists()


def test_a_locked_database_costs_time_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "lungnode.sqlite3"
    engine = new_sqlite(f"sqlite:///{file}", lock_wait_s=0.05)
    node = ClerkNode(engine, Settings(data=tmp_path))
    fill(node)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(UnavailableError, match="database is locked"):
        node.clerk.round()

    other.execute("ROLLBACK")
    other.close()
    node.clerk.round()
    assert len(node.rows(Instance)) == 7
    engine.dispose()


def start(data: Path, url: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "LUNGNODE_DATABASE_URL": url, "LUNGNODE_CLERK__POLL_S": "0.02"}
    command = [sys.executable, "-m", "lungnode", "clerk", "--data", str(data)]
    with (data / "log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stderr=log)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited in vain for {what}")
        time.sleep(0.005)


def spool_many(node: ClerkNode, associations: int, each: int) -> set[str]:
    digests = set()
    for number in range(associations):
        first = 1 + number * each
        sender = node.sender(f"a{number:03}").send(*slices(range(first, first + each)))
        digests |= {sha256(path.read_bytes()).hexdigest() for path in sender.folder.glob("*.dcm")}
        sender.release()
    return digests


def is_drained(node: ClerkNode) -> bool:
    return not any(node.settings.spool.iterdir())


def count(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*.dcm"))


def test_kill_9_again_and_again_loses_and_doubles_nothing(clerk_node: ClerkNode) -> None:
    digests = spool_many(clerk_node, associations=30, each=20)
    data, url = clerk_node.settings.data, clerk_node.engine.url.render_as_string(hide_password=False)

    for wanted in (1, 250):
        victim = start(data, url)
        wait_for(lambda wanted=wanted: count(data / "archive") >= wanted, f"{wanted} archived files")  # type: ignore[misc]
        victim.kill()
        victim.wait()
    last = start(data, url)
    wait_for(lambda: is_drained(clerk_node), "an empty spool")
    last.send_signal(signal.SIGTERM)

    assert last.wait(timeout=20) == 0
    rows = clerk_node.rows(Instance)
    assert len(rows) == 600
    assert {row.digest for row in rows} == set(clerk_node.archived().values()) == digests


def test_two_clerks_on_one_spool_insert_nothing_twice(clerk_node: ClerkNode) -> None:
    digests = spool_many(clerk_node, associations=30, each=10)
    again = clerk_node.sender("b1").send(*slices(range(1, 101)))
    again.release()
    data, url = clerk_node.settings.data, clerk_node.engine.url.render_as_string(hide_password=False)

    clerks = [start(data, url) for _ in range(2)]
    log = data / "log"
    wait_for(lambda: log.read_bytes().count(b"the clerk is ready") == len(clerks), "both clerks")
    wait_for(lambda: is_drained(clerk_node), "an empty spool")
    for clerk in clerks:
        clerk.terminate()

    assert [clerk.wait(timeout=20) for clerk in clerks] == [0, 0]
    rows = clerk_node.rows(Instance)
    assert len(rows) == 300
    assert {row.digest for row in rows} == set(clerk_node.archived().values()) == digests
    assert b"Traceback" not in log.read_bytes()
