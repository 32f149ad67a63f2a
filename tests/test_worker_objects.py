"""Receiver's, analysis, delivery and web host share a database and an object store, and no folder."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import Engine

from db.models import Analysis, Delivery, DeliveryState, Output
from db.session import transaction
from lungnode.cli._check import Status
from lungnode.cli._store_checks import check_store
from lungnode.phantom import PhantomStudy, phantom_study
from lungnode.settings import AnalysisSettings, DicomDestination, Settings
from lungnode.shown_maps import MAPS_FILE, read_maps
from lungnode.store import StoredFile
from tests.bench import OneProbability
from tests.couriers import dimse, pacs
from tests.spooling import ClerkNode
from tests.stores import ObjectServer
from tests.web import Web
from worker.courier import deliver_row
from worker.hold import Node
from worker.room import AWAY_WAIT_S
from worker.run import Analyst

SLICES = 14


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return phantom_study(tmp_path_factory.mktemp("phantom"), slices=SLICES, size=128)


@dataclass
class Hosts:
    """A clerk that received a study, and hosts beside it."""

    clerk: ClerkNode
    folder: Path
    server: ObjectServer
    destination: DicomDestination

    def settings(self, name: str) -> Settings:
        """What a host is set to, with a data folder of its own."""
        own = {"data": self.folder / name, "destinations": (self.destination,)}
        return self.clerk.settings.model_copy(update=own)

    def host(self, name: str) -> Node:
        """A worker on a host."""
        return Node(self.clerk.engine, self.settings(name), lambda: False, self.clerk.clock)

    def analyse(self, name: str = "analyst") -> list[int]:
        """Do what an analysis worker does for one message."""
        analyst = Analyst(self.host(name), lambda _folder, _settings: OneProbability())
        return analyst.analyse_most_urgent()

    def analysis(self) -> Analysis:
        """The only one."""
        (row,) = self.clerk.rows(Analysis)
        return row

    def delivery(self, row_id: int) -> Delivery:
        """One of them."""
        with transaction(self.clerk.engine) as session:
            return session.get_one(Delivery, row_id)


@pytest.fixture
def hosts(sqlite: Engine, tmp_path: Path, object_server: ObjectServer, study: PhantomStudy) -> Hosts:
    limits = AnalysisSettings(max_attempts=2)
    clerk = ClerkNode(
        sqlite, Settings(data=tmp_path / "clerk", store=object_server.settings("/ct"), analysis=limits)
    )
    sender = clerk.sender()
    for path in study.paths:
        sender.put(copied(path))
    sender.release()
    clerk.clerk.round()
    assert clerk.rounds_after(1000) != []
    object_server.gets.clear()
    return Hosts(clerk, tmp_path, object_server, dimse(104))


def copied(path: Path) -> Callable[[Path], object]:
    return lambda target: shutil.copy(path, target)


def test_a_study_is_analysed_delivered_and_shown_by_hosts_without_a_common_folder(
    hosts: Hosts, study: PhantomStudy
) -> None:
    with pacs() as peer:
        hosts.destination = dimse(peer.port)
        first = hosts.analyse()
        assert len(hosts.server.gets) == SLICES  # each of them once
        for row_id in (first[0], *deliver_row(hosts.host("courier"), first[0])):
            deliver_row(hosts.host("courier"), row_id)
            assert hosts.delivery(row_id).state == DeliveryState.STORED

    made = {row.sop_instance_uid: row for row in hosts.clerk.rows(Output)}
    assert {uid for uid, *_ in peer.stored} == {uid for uid, row in made.items() if row.group in ("sr", "sc")}
    web = Web(hosts.clerk.engine, hosts.folder / "web", {"store": hosts.settings("web").store})
    caller = web.program("reader", "view")
    for path in study.paths[:2]:
        ds = dcmread(path, stop_before_pixels=True)
        at = f"/dicomweb/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/"
        answer = caller.get(
            f"{at}{ds.SOPInstanceUID}", headers={"Accept": 'application/dicom; transfer-syntax="*"'}
        )
        assert answer.content == path.read_bytes()
    maps = StoredFile(f"{study.study_instance_uid}/1/{MAPS_FILE}")
    shown = read_maps(web.node.outputs.fetch([maps])[0])
    assert shown is not None
    assert len(shown.levels) == len(hosts.analysis().details["slices"])


@pytest.mark.parametrize("when", ["before it reads", "before it writes"])
def test_an_analysis_that_finds_the_store_away_waits_without_an_attempt_spent(
    hosts: Hosts, when: str
) -> None:
    if when == "before it reads":
        hosts.server.is_down = True
    else:
        hosts.server.dies_after_puts = 1

    assert hosts.analyse() == []
    row = hosts.analysis()
    assert (row.state, row.attempts) == ("queued", 0)
    assert row.reason.startswith("The object store s3://")

    hosts.clerk.clock.pass_s(AWAY_WAIT_S)
    hosts.server.revive()
    assert hosts.analyse() != []
    assert hosts.analysis().attempts == 1
    assert hosts.clerk.rows(Output) != []


def test_a_delivery_that_finds_the_store_away_waits_without_an_attempt_spent(hosts: Hosts) -> None:
    with pacs() as peer:
        hosts.destination = dimse(peer.port)
        (row_id,) = hosts.analyse()
        hosts.server.is_down = True
        deliver_row(hosts.host("courier"), row_id)
        waiting = hosts.delivery(row_id)
        hosts.server.revive()
        hosts.clerk.clock.now = waiting.due_at
        deliver_row(hosts.host("courier"), row_id)

    assert (waiting.state, waiting.attempts) == (DeliveryState.PENDING, 0)
    assert waiting.due_at > hosts.clerk.clock.now - timedelta(days=1)
    assert waiting.reason.startswith("The object store s3://")
    assert hosts.delivery(row_id).state == DeliveryState.STORED


def test_a_damaged_slice_is_named_and_the_study_not_judged_by_the_rest(hosts: Hosts) -> None:
    path = hosts.host("analyst").archive.sizes(hosts.clerk.study().study_instance_uid)
    key = f"ct/archive/{min(path)}"
    with hosts.server.client() as client:
        client.put_object(Bucket=hosts.clerk.settings.store.bucket, Key=key, Body=b"x" * min(path.values()))

    assert hosts.analyse() == []

    row = hosts.analysis()
    assert (row.state, row.attempts) == ("failed", 1)
    assert f"{key} is not what was received: its digest is another one" in row.reason


def test_check_says_whether_the_store_takes_gives_back_and_deletes(hosts: Hosts) -> None:
    (well,) = check_store(hosts.settings("any"))
    hosts.server.is_down = True
    (ill,) = check_store(hosts.settings("any"))

    assert (well.status, ill.status) == (Status.OK, Status.WRONG)
    assert well.message.endswith("/ct takes, gives back and deletes.")
    assert "cannot be used" in ill.message
    assert list(check_store(Settings(data=hosts.folder))) == []
