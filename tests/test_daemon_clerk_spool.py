import os
import threading
from datetime import timedelta
from pathlib import Path
from socket import gethostname

import pytest

from daemon.clerk.main import Clerk
from daemon.clerk.spool import GRACE, held, read_association, scan
from db.models import Instance
from lungnode.rules import Facts
from tests.spooling import NOON, ClerkNode, Sender, ct, slices


@pytest.fixture
def sender(tmp_path: Path) -> Sender:
    """An open association with one instance."""
    return Sender(tmp_path / "spool", "a1").open().send(ct())


def test_an_association_is_open_exactly_while_its_file_is_locked(sender: Sender) -> None:
    assert read_association(sender.folder, NOON).is_open

    sender.release("aborted")

    found = read_association(sender.folder, NOON)
    assert (found.is_open, found.outcome) == (False, "aborted")


def test_an_association_without_an_end_is_lost(sender: Sender) -> None:
    sender.lose()

    assert read_association(sender.folder, NOON).outcome == "lost"


def test_the_sender_is_read_from_the_association_file(sender: Sender) -> None:
    found = read_association(sender.folder, NOON)

    assert found.facts == Facts("SCANNER", "LUNGNODE", "192.0.2.7")
    assert (found.id, found.host, found.opened_at) == ("a1", gethostname(), NOON)
    sender.lose()


def test_a_folder_that_the_receiver_has_just_made_counts_as_open(tmp_path: Path) -> None:
    (tmp_path / "a1").mkdir()
    os.utime(tmp_path / "a1", (NOON.timestamp(), NOON.timestamp()))

    assert read_association(tmp_path / "a1", NOON).is_open
    assert not read_association(tmp_path / "a1", NOON + GRACE).is_open


def test_only_whole_files_are_taken_in_the_order_they_came(sender: Sender) -> None:
    sender.send(ct(2))
    (sender.folder / "00000003.part").write_bytes(b"half")
    (sender.folder / "00000004.dcm").mkdir()

    names = [path.name for path in read_association(sender.folder, NOON).files()]

    assert names == ["00000001.dcm", "00000002.dcm"]
    sender.lose()


def test_the_oldest_association_comes_first(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    Sender(spool, "a1", NOON + timedelta(seconds=1)).open().lose()
    Sender(spool, "a2", NOON).open().lose()
    (spool / "stray file").write_text("")
    (spool / ".hidden").mkdir()

    assert [each.id for each in scan(spool, NOON)] == ["a2", "a1"]


def test_a_spool_that_nobody_made_yet_is_empty(tmp_path: Path) -> None:
    assert scan(tmp_path / "spool", NOON) == []


@pytest.mark.parametrize("content", ["", "[]", "{", '{"calling_ae_title": 7, "opened_at": "yesterday"}'])
def test_a_damaged_association_file_tells_nothing(sender: Sender, content: str) -> None:
    (sender.folder / "association.json").write_text(content)
    sender.lose()

    assert read_association(sender.folder, NOON).facts == Facts()


def test_a_folder_that_another_clerk_holds_is_left_and_nothing_is_judged(clerk_node: ClerkNode) -> None:
    clerk_node.receive(*slices(range(1, 5), ImagesInAcquisition=5))
    clerk_node.sender("a2").send(ct(5, ImagesInAcquisition=5)).release()
    (association,) = scan(clerk_node.settings.spool, NOON)
    clerk_node.clock.pass_s(1000)
    other = Clerk(clerk_node.engine, clerk_node.settings, threading.Event(), clerk_node.clock)

    with held(association) as is_ours:
        assert is_ours
        assert other.round() == []
        assert len(clerk_node.rows(Instance)) == 4

    assert len(other.round()) == 1
    assert clerk_node.study().completeness == "complete: 5 of 5"
