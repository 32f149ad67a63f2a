"""What `lungnode check` says of disks, retention and deletions."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from db.erasure import begin_erasure
from db.models import Study
from db.session import transaction
from lungnode.cli._check import Check, Status
from lungnode.cli._disk_checks import check_backlog, check_disks, check_kept
from lungnode.congestion import tell
from lungnode.settings import ReceiverSettings, RetentionSettings, Settings
from tests.databases import new_sqlite
from tests.disks import Disks
from tests.retaining import change, settle
from tests.spooling import NOON, STUDY, ClerkNode


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ClerkNode]:
    settings = Settings(data=tmp_path / "data")
    engine = new_sqlite(settings.database)
    node = ClerkNode(engine, settings)
    settle(node)
    yield node
    engine.dispose()


def kept(node: ClerkNode, **limits: int) -> dict[str, Check]:
    settings = node.settings.model_copy(update={"retention": RetentionSettings(**limits)})
    return {check.name: check for check in check_kept(settings)}


def test_each_file_system_is_checked_once_and_the_spool_s_decides(disks: Disks, tmp_path: Path) -> None:
    small, data = disks.make(2), tmp_path / "data"
    data.mkdir()
    (data / "archive").symlink_to(small.folder, target_is_directory=True)
    limits = ReceiverSettings(disk_warn_bytes=3_000_000, disk_reject_bytes=2_500_000)

    spool, archive = check_disks(Settings(data=data, receiver=limits))

    assert (spool.name, spool.status) == ("disk", Status.OK)
    assert (archive.name, archive.status) == (f"disk of {data / 'archive'}", Status.WRONG)
    assert "Work on studies waits" in archive.message


def test_it_says_that_senders_are_turned_away_because_too_much_waits(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, receiver=ReceiverSettings(max_waiting_studies=300))
    assert list(check_backlog(settings)) == []

    tell(settings.spool)

    (check,) = check_backlog(settings)
    assert check.status == Status.WARNING
    assert check.message.startswith("More than 300 studies wait")


def test_without_a_limit_it_says_that_nothing_is_deleted(node: ClerkNode) -> None:
    assert kept(node)["retention"].message == "No limit is set: nothing is deleted by itself."


def test_what_keeps_old_studies_is_counted(node: ClerkNode) -> None:
    settle(node, "1.2.840.99999.2")
    change(node, Study, hold="x")

    found = kept(node, days=1)["retention"]

    assert (found.status, found.message) == (
        Status.OK,
        "Studies and results take 0.0 GB; 1 are to be deleted. Old ones that stay: it is on hold (1).",
    )


def test_a_size_that_cannot_be_kept_is_a_warning(node: ClerkNode) -> None:
    change(node, Study, hold="x")

    found = kept(node, max_bytes=1)["retention"]

    assert found.status is Status.WARNING
    assert found.message.endswith("Allowed are 0.0 GB.")


def test_a_deletion_that_was_cut_short_is_named(node: ClerkNode) -> None:
    with transaction(node.engine) as session:
        begin_erasure(session, STUDY, [], NOON)

    found = kept(node)["deletions"]

    assert (found.status, found.message) == (Status.WARNING, "1 are not finished.")
    assert found.mend == f"Repeat `lungnode studies delete {STUDY}`."


def test_a_node_that_was_never_started_has_nothing_to_check(tmp_path: Path) -> None:
    assert list(check_kept(Settings(data=tmp_path))) == []
