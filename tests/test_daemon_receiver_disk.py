import logging
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from daemon.receiver.alerts import Alerts
from daemon.receiver.association import Association, Node
from daemon.receiver.backlog import Backlog
from daemon.receiver.disk import CONGESTED_AFTER_S, Disk
from daemon.receiver.seats import Seats, limits_of
from daemon.receiver.tally import Tally
from lungnode.settings import ReceiverSettings, Settings
from tests.dicom_wire import DEADLINE_S, Peer, associate_request

SETTINGS = ReceiverSettings(disk_warn_bytes=1_000, disk_reject_bytes=100)


@dataclass
class FakeDisk:
    """Free bytes and time, as the test wants them."""

    free: int = 5_000
    now_s: float = 0.0

    def disk(self, spool: Path) -> Disk:
        """A Disk that sees them."""
        return Disk(spool, SETTINGS, free_bytes=lambda _: self.free, clock=lambda: self.now_s)


@pytest.mark.parametrize(
    ("free", "is_full"), [(5_000, False), (1_000, False), (999, False), (100, False), (99, True)]
)
def test_a_disk_is_full_below_the_second_watermark(tmp_path: Path, free: int, *, is_full: bool) -> None:
    assert FakeDisk(free).disk(tmp_path).is_full() == is_full


def test_each_change_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    fake = FakeDisk()
    disk = fake.disk(tmp_path)

    for fake.free in (5_000, 999, 998, 99, 98, 5_000):
        disk.is_full()

    assert [(record.levelname, record.message.rpartition(" is ")[2]) for record in caplog.records] == [
        ("WARNING", "low: 999 bytes free"),
        ("ERROR", "full: 99 bytes free"),
        ("INFO", "roomy: 5000 bytes free"),
    ]


def test_a_disk_that_stays_full_is_congested_until_it_has_room(tmp_path: Path) -> None:
    fake = FakeDisk(free=0)
    disk = fake.disk(tmp_path)
    assert not disk.is_congested()

    fake.now_s = CONGESTED_AFTER_S
    assert disk.is_congested()
    fake.free = 5_000
    assert not disk.is_congested()
    fake.free = 0
    assert not disk.is_congested()


def test_a_disk_that_cannot_be_looked_at_is_left_to_the_attempt_to_write(tmp_path: Path) -> None:
    assert not Disk(tmp_path / "absent", SETTINGS).is_full()


def test_a_congested_disk_turns_associations_away_for_the_time_being(tmp_path: Path) -> None:
    fake = FakeDisk(free=0)
    disk = fake.disk(tmp_path)
    disk.is_full()
    fake.now_s = CONGESTED_AFTER_S
    seats = Seats(1, limits_of(ReceiverSettings()))
    node = Node(Settings(data=tmp_path), seats, disk, Tally(), Alerts(tmp_path), Backlog(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as listener, Peer(listener.getsockname()[1]) as peer:
        connection, address = listener.accept()
        thread = threading.Thread(target=Association(connection, address[0], node, 0).run)
        thread.start()

        peer.send(associate_request())

        assert peer.read_pdu() == (3, bytes((0, 2, 3, 1)))
        peer.socket.close()
        thread.join(DEADLINE_S)
        connection.close()
    assert node.tally.counts() == {"TEMPORARY_CONGESTION": 1}
