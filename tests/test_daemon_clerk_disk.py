"""The clerk on disks that are really full: nothing is lost, and it goes on when there is room."""

import os
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from db.models import Instance, Quarantined
from lungnode.errors import UnavailableError
from lungnode.settings import Settings
from tests.databases import new_sqlite
from tests.disks import Disks, SmallDisk
from tests.nodes import wait_for
from tests.retaining import MONTH_S, files, keep_for, settle, sweep
from tests.spooling import STUDY, ClerkNode, ct, slices

PIXELS = os.urandom(300_000)  # of a slice whose file does not fit beside others


def node_on(data: Path, database: Path) -> ClerkNode:
    engine = new_sqlite(f"sqlite:///{database / 'lungnode.sqlite3'}", lock_wait_s=1.0)
    return ClerkNode(engine, Settings(data=data))


def archive_on(disk: SmallDisk, folder: Path) -> ClerkNode:
    """A node whose archive lies on a disk of its own."""
    node = node_on(folder / "data", folder)
    node.settings.data.mkdir()
    (disk.folder / "archive").mkdir()
    node.settings.archive.symlink_to(disk.folder / "archive", target_is_directory=True)
    return node


def spooled(node: ClerkNode) -> set[str]:
    return {sha256(path.read_bytes()).hexdigest() for path in node.settings.spool.glob("*/*.dcm")}


def archived(node: ClerkNode) -> set[str]:
    return set(node.archived().values())


def test_a_full_disk_of_the_archive_keeps_what_came_in_the_spool(disks: Disks, tmp_path: Path) -> None:
    disk = disks.make(2)
    node = archive_on(disk, tmp_path)
    node.sender().send(*(ct(number, PixelData=PIXELS) for number in range(1, 5))).release()
    came = spooled(node)
    disk.fill(leave=500_000)

    with pytest.raises(UnavailableError, match="archive cannot be used: No space left on device"):
        node.clerk.round()

    assert spooled(node) == came
    assert not [path for path in node.settings.archive.rglob("*") if path.name.endswith(".part")]
    disk.make_room()
    node.clerk.round()
    assert (archived(node), spooled(node)) == (came, set())
    assert {row.digest for row in node.rows(Instance)} == came
    node.engine.dispose()


def test_a_full_disk_of_the_database_costs_time_alone(disks: Disks, tmp_path: Path) -> None:
    disk = disks.make(3)
    node = node_on(tmp_path / "data", disk.folder)
    node.clerk.round()  # the database's journal is there from now on
    node.sender().send(*slices(range(1, 60))).release()
    came = spooled(node)
    disk.fill()

    with pytest.raises(UnavailableError, match="database or disk is full"):
        node.clerk.round()

    assert spooled(node) == came
    disk.make_room()
    node.clerk.round()
    assert (archived(node), spooled(node)) == (came, set())
    node.engine.dispose()


def test_a_full_disk_of_the_quarantine_keeps_the_file_in_the_spool(disks: Disks, tmp_path: Path) -> None:
    disk = disks.make(2)
    node = node_on(tmp_path / "data", tmp_path)
    node.settings.data.mkdir()
    node.settings.quarantine.symlink_to(disk.folder / "quarantine", target_is_directory=True)
    (disk.folder / "quarantine").mkdir()
    sender = node.sender().send(ct(1))
    sender.put(lambda path: path.write_bytes(b"no DICOM" + PIXELS))
    sender.release()
    disk.fill()

    with pytest.raises(UnavailableError, match="quarantine cannot be used: No space left on device"):
        node.clerk.round()

    assert len(node.rows(Instance)) == 1
    disk.make_room()
    node.clerk.round()
    (row,) = node.rows(Quarantined)
    assert (node.settings.quarantine / row.path).read_bytes() == b"no DICOM" + PIXELS
    assert spooled(node) == set()
    node.engine.dispose()


def test_retention_makes_room_on_a_disk_that_is_full_to_the_last_byte(disks: Disks, tmp_path: Path) -> None:
    disk = disks.make(3)
    node = node_on(disk.folder / "data", tmp_path)
    keep_for(node, 30)
    settle(node)
    disk.fill()
    assert disk.free == 0

    assert sweep(node, MONTH_S) == [STUDY]

    assert files(node) == set()
    assert disk.free > 0
    node.engine.dispose()


def test_a_running_clerk_says_once_that_it_waits_and_goes_on_by_itself(disks: Disks, tmp_path: Path) -> None:
    disk, log = disks.make(2), tmp_path / "log"
    node = archive_on(disk, tmp_path)
    node.sender().send(*(ct(number, PixelData=PIXELS) for number in range(1, 5))).release()
    came = spooled(node)
    disk.fill(leave=500_000)
    command = [sys.executable, "-m", "lungnode", "clerk", "--data", str(node.settings.data)]
    environment = os.environ | {
        "LUNGNODE_CLERK__POLL_S": "0.05",
        "LUNGNODE_DATABASE_URL": str(node.engine.url),
    }
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=environment, stderr=output)
    try:
        wait_for(lambda: "waiting: " in log.read_text(), 60, what="a clerk that waits")
        disk.make_room()
        wait_for(lambda: not any(node.settings.spool.iterdir()), 60, what="an empty spool")
        assert archived(node) == came
        wait_for(lambda: "work goes on" in log.read_text(), 60, what="a clerk that says so")
        assert log.read_text().count("No space left on device") == 1
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    node.engine.dispose()
