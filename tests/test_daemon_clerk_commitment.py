"""What the clerk does with commitment requests: takes them once, verifies them on disk, hands reports on."""

import json
import shutil
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import MRImageStorage
from sqlalchemy import update

from daemon.clerk.rendezvous import PATIENCE
from db.models import AssociationRecord, CommitmentRequest, CommitmentStudy, Instance, Quarantined
from db.session import transaction
from lungnode.errors import UnavailableError
from lungnode.settings import Peer, Settings
from tests.databases import new_sqlite
from tests.spooling import NOON, STUDY, ClerkNode, Sender, ct, slices

WORKLIST = "1.2.840.10008.5.1.4.31"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ClerkNode]:
    """A node on SQLite whose archive holds slices 1 to 3 of a study."""
    engine = new_sqlite(f"sqlite:///{tmp_path / 'lungnode.sqlite3'}")
    yield with_images(ClerkNode(engine, Settings(data=tmp_path / "data")))
    engine.dispose()


@pytest.fixture
def either(clerk_node: ClerkNode) -> ClerkNode:
    """The same on SQLite and on PostgreSQL: for each statement at least once."""
    return with_images(clerk_node)


def with_images(node: ClerkNode) -> ClerkNode:
    node.receive(*slices(range(1, 4)), name="images")
    return node


def the_request(node: ClerkNode) -> CommitmentRequest:
    (row,) = node.rows(CommitmentRequest)
    return row


def reasons(row: CommitmentRequest) -> list[str]:
    return [each["failure_reason"] for each in row.instances]


def asked(node: ClerkNode, *data_sets: Dataset, name: str = "scu", **changes: str) -> Path:
    """Ask over an association of its own, which is released at once, and let the clerk work."""
    sender = node.sender(name)
    path = sender.ask(*data_sets, **changes)
    sender.release()
    node.clerk.round()
    return path


def waiting(node: ClerkNode, *data_sets: Dataset) -> tuple[Sender, Path]:
    """Ask over an association that stays open, and let the clerk work."""
    sender = node.sender("scu")
    path = sender.ask(*data_sets)
    node.clerk.round()
    node.desk().round()
    return sender, path


def test_what_is_whole_in_the_archive_is_committed_and_its_report_due(either: ClerkNode) -> None:
    asked(either, *slices(range(1, 4)))

    reports, waits = either.desk().round()

    row = the_request(either)
    assert (reports, waits, row.state, row.attempts, row.due_at) == (1, False, "verified", 0, NOON)
    assert (reasons(row), row.verified_at) == ([""] * 3, NOON)
    assert (row.calling_ae_title, row.called_ae_title, row.address) == ("SCANNER", "LUNGNODE", "192.0.2.7")
    assert [each.study_instance_uid for each in either.rows(CommitmentStudy)] == [STUDY]
    assert not list(either.settings.spool.iterdir())


def test_a_request_that_follows_its_instances_in_one_round_finds_them(clerk_node: ClerkNode) -> None:
    sender = clerk_node.sender().send(*slices(range(1, 30)))
    sender.ask(*slices(range(1, 30)))
    sender.release()
    clerk_node.clerk.round()

    clerk_node.desk().round()

    assert set(reasons(the_request(clerk_node))) == {""}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_cut, _flip, Path.unlink])
def test_a_file_of_another_size_or_digest_and_a_missing_one_are_processing_failures(
    node: ClerkNode, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    damage(node.settings.archive / STUDY / f"{STUDY}.1.2.dcm")  # type: ignore[operator]
    asked(node, *slices(range(1, 4)))

    node.desk().round()

    assert reasons(the_request(node)) == ["", "0x0110", ""]
    assert f"instance {STUDY}.1.2 is damaged or gone" in caplog.text


def test_each_failure_has_the_standards_reason(node: ClerkNode) -> None:
    with transaction(node.engine) as session:
        session.execute(
            update(Instance).where(Instance.sop_instance_uid == f"{STUDY}.1.3").values(deleted_at=NOON)
        )
    never_sent, no_storage_class = ct(9), ct(10, SOPClassUID=WORKLIST)
    asked(node, ct(1), ct(2, SOPClassUID=MRImageStorage), ct(3), never_sent, no_storage_class)

    node.clock.pass_s(6)
    node.desk().round()

    assert reasons(the_request(node)) == ["", "0x0119", "0x0112", "0x0112", "0x0122"]


def test_of_two_instances_with_one_uid_both_must_be_whole(node: ClerkNode) -> None:
    node.receive(ct(1, PixelData=bytes(32)), name="other pixels")
    (conflict,) = node.settings.archive.glob(f"{STUDY}/{STUDY}.1.1.*.dcm")
    asked(node, ct(1))
    node.desk().round()
    assert reasons(the_request(node)) == [""]

    _flip(conflict)
    asked(node, ct(1), name="later", transaction_uid="1.2.3.4.6")
    node.desk().round()

    assert [reasons(row) for row in node.rows(CommitmentRequest)] == [[""], ["0x0110"]]


def test_an_instance_that_may_still_be_in_the_spool_is_waited_for(node: ClerkNode) -> None:
    slow = node.sender("slow")
    asked(node, ct(1), ct(9))

    assert node.desk().round() == (0, True)
    node.clock.pass_s(60)
    assert node.desk().round() == (0, True)
    assert (the_request(node).state, the_request(node).attempts) == ("requested", 0)
    slow.send(ct(9)).release()
    node.clerk.round()
    node.clock.pass_s(1)
    node.desk().round()

    assert (the_request(node).state, reasons(the_request(node))) == ("verified", ["", ""])


def test_an_instance_that_may_be_in_the_spool_of_another_host_is_waited_for(either: ClerkNode) -> None:
    add_association(either, "far", "elsewhere", NOON)
    asked(either, ct(9))
    either.clock.pass_s(30)

    assert either.desk().round() == (0, True)


def add_association(node: ClerkNode, name: str, host: str, at: datetime) -> None:
    with transaction(node.engine) as session:
        session.add(
            AssociationRecord(
                id=name,
                host=host,
                calling_ae_title="CT2",
                called_ae_title="LUNGNODE",
                address="192.0.2.8",
                opened_at=at,
                lease_until=at + timedelta(seconds=60),
            )
        )


def test_waiting_for_the_spool_ends_at_the_limit(node: ClerkNode) -> None:
    node.sender("endless")
    asked(node, ct(9))

    node.clock.pass_s(node.settings.commitment.wait_s + 1)
    node.desk().round()

    assert (the_request(node).state, reasons(the_request(node))) == ("verified", ["0x0112"])


def test_an_instance_that_nobody_can_have_sent_is_missed_within_seconds(node: ClerkNode) -> None:
    asked(node, ct(9))

    assert node.desk().round() == (0, True)
    node.clock.pass_s(6)
    node.desk().round()

    assert (the_request(node).state, reasons(the_request(node))) == ("verified", ["0x0112"])


def test_a_peer_that_waits_is_left_its_result_and_its_answer_ends_the_request(either: ClerkNode) -> None:
    sender, path = waiting(either, ct(1), ct(2))
    held = the_request(either)
    result = json.loads(path.with_suffix(".result").read_text())
    assert (held.state, held.lease_owner) == ("reporting", "association scu")
    assert [each["failure_reason"] for each in result["references"]] == ["", ""]

    sender.answer(path)
    either.desk().round()

    row = the_request(either)
    assert (row.state, row.finished_at, row.reason) == ("reported", NOON, "")
    sender.release()
    either.clerk.round()
    assert not list(either.settings.spool.iterdir())


def test_a_peer_that_hangs_up_without_an_answer_is_called_at_once(either: ClerkNode) -> None:
    sender, _ = waiting(either, ct(1))

    sender.release()
    either.clerk.round()
    either.desk().round()

    row = the_request(either)
    assert (row.state, row.attempts, row.due_at, row.lease_owner) == ("verified", 0, NOON, "")
    assert not list(either.settings.spool.iterdir())


def test_an_answer_that_came_before_the_peer_hung_up_counts(node: ClerkNode) -> None:
    sender, path = waiting(node, ct(1))

    sender.answer(path)
    sender.release()
    node.clerk.round()
    node.desk().round()
    node.clerk.round()

    assert the_request(node).state == "reported"
    assert not list(node.settings.spool.iterdir())


def test_an_answer_that_a_power_failure_took_is_none(node: ClerkNode) -> None:
    sender, path = waiting(node, ct(1))

    path.with_suffix(".reported").write_bytes(b"")
    sender.lose()
    node.clerk.round()
    node.desk().round()

    assert the_request(node).state == "verified"


def test_a_peer_that_refuses_the_report_is_called_later(node: ClerkNode) -> None:
    sender, path = waiting(node, ct(1))

    sender.answer(path, "0x0110")
    node.desk().round()

    row = the_request(node)
    assert (row.state, row.reason) == ("verified", "The peer answered 0x0110 to the report.")
    assert row.due_at > NOON


def test_a_peer_that_neither_answers_nor_hangs_up_is_called_after_a_while(node: ClerkNode) -> None:
    waiting(node, ct(1))
    node.clock.pass_s(40)
    assert node.desk().round() == (0, True)
    assert the_request(node).state == "reporting"

    node.clock.pass_s(PATIENCE.total_seconds())
    node.desk().round()

    assert the_request(node).state == "verified"


def test_with_report_on_new_an_open_association_is_not_used(node: ClerkNode) -> None:
    node.restart(commitment=node.settings.commitment.model_copy(update={"report_on": "new"}))
    _, path = waiting(node, ct(1))

    assert the_request(node).state == "verified"
    assert not path.with_suffix(".result").exists()


@pytest.mark.parametrize(
    ("ae_title", "report_on", "state"),
    [("SCANNER", "new", "verified"), ("SCANNER", None, "reporting"), ("OTHER", "new", "reporting")],
)
def test_a_peer_may_want_its_reports_elsewhere_than_others(
    node: ClerkNode, ae_title: str, report_on: str | None, state: str
) -> None:
    known = {"name": "ct", "ae_title": ae_title, "host": "192.0.2.7", "port": 104, "report_on": report_on}
    node.restart(peers=(Peer.model_validate(known),))

    waiting(node, ct(1))

    assert the_request(node).state == state


def test_a_clerk_killed_between_row_and_result_leaves_the_result_when_it_is_back(node: ClerkNode) -> None:
    _, path = waiting(node, ct(1))
    path.with_suffix(".result").unlink()

    node.desk().round()

    assert path.with_suffix(".result").exists()


def test_a_request_whose_file_is_met_again_after_a_crash_is_one_request(node: ClerkNode) -> None:
    sender = node.sender("scu")
    path = sender.ask(ct(1))
    content = path.read_bytes()
    node.clerk.round()
    sender.release()
    node.desk().round()
    with transaction(node.engine) as session:
        session.execute(update(CommitmentRequest).values(state="reported"))

    path.write_bytes(content)
    node.clerk.round()
    node.desk().round()

    assert the_request(node).state == "reported"


def test_the_same_request_again_is_reported_again(either: ClerkNode) -> None:
    asked(either, ct(1), ct(2))
    either.desk().round()
    with transaction(either.engine) as session:
        session.execute(update(CommitmentRequest).values(state="reported"))

    asked(either, ct(2), ct(1), name="again")
    either.desk().round()

    assert (the_request(either).state, the_request(either).association_id) == ("verified", "again")


def test_a_transaction_uid_used_for_other_instances_is_a_duplicate(either: ClerkNode) -> None:
    asked(either, ct(1))
    asked(either, ct(2), name="other")
    asked(either, ct(3), name="own", transaction_uid="1.2.3.4.6")
    either.desk().round()

    assert [reasons(row) for row in either.rows(CommitmentRequest)] == [[""], ["0x0131"], [""]]


def test_a_request_on_an_association_of_another_host_is_left_to_its_clerk(either: ClerkNode) -> None:
    asked(either, ct(1))
    with transaction(either.engine) as session:
        session.execute(
            update(AssociationRecord)
            .where(AssociationRecord.id == "scu")
            .values(host="elsewhere", closed_at=None, lease_until=NOON + timedelta(seconds=30))
        )

    either.desk().round()
    assert the_request(either).state == "requested"
    either.clock.pass_s(31)
    either.desk().round()

    assert the_request(either).state == "verified"
    assert socket.gethostname() != "elsewhere"


@pytest.mark.parametrize(
    ("kept", "reason"),
    [(400, "Referenced SOP Sequence (0008,1199) is missing"), (0, "Its File Meta group cannot be read")],
)
def test_a_request_that_the_disk_damaged_is_set_aside(node: ClerkNode, kept: int, reason: str) -> None:
    sender = node.sender("scu")
    path = sender.ask(ct(1))
    path.write_bytes(path.read_bytes()[:kept] + bytes(50))
    sender.release()

    node.clerk.round()

    (row,) = node.rows(Quarantined)
    assert reason in row.reason
    assert not node.rows(CommitmentRequest)
    assert not list(node.settings.spool.iterdir())


def test_while_the_archive_is_away_a_request_waits_and_spends_no_attempt(node: ClerkNode) -> None:
    asked(node, ct(1))
    away = node.settings.archive.with_name("away")
    node.settings.archive.rename(away)

    with pytest.raises(UnavailableError):
        node.desk().round()
    assert (the_request(node).state, the_request(node).attempts) == ("requested", 0)
    shutil.move(away, node.settings.archive)
    node.desk().round()

    assert reasons(the_request(node)) == [""]
