"""Orthanc in both roles of storage commitment: it asks us and is told, and it commits to our results."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from pydicom.uid import CTImageStorage
from sqlalchemy import Engine

from daemon.clerk.desk import CommitmentDesk
from daemon.clerk.main import Clerk, now_utc
from db.commitments import list_requests
from db.models import CommitmentRequest, CommitmentState, Delivery
from db.session import open_engine, transaction, upgrade
from lungnode.settings import CommitmentSettings, Peer, Settings
from tests.couriers import Courier, MakeCourier, dimse
from tests.nodes import wait_for
from tests.orthanc import Orthanc, running_orthanc
from tests.receiving import running_receiver
from tests.spooling import STUDY, slices, write
from worker.commitment import report_row
from worker.confirm import confirm_due
from worker.courier import deliver_row
from worker.hold import Node


@dataclass
class Pair:
    """Orthanc as a scanner, and a node with a real receiver whose other programs run when they are told."""

    orthanc: Orthanc
    engine: Engine
    settings: Settings

    def work(self) -> None:
        """Let the clerk and a courier do what is due."""
        stop = Event()
        Clerk(self.engine, self.settings, stop).round()
        CommitmentDesk(self.engine, self.settings, stop.is_set, now_utc).round()
        node = Node(self.engine, self.settings, lambda: False)
        for row in self.requests():
            if row.state == CommitmentState.VERIFIED:
                report_row(node, row.id)

    def requests(self) -> list[CommitmentRequest]:
        """What Orthanc asked for, the last one first."""
        with transaction(self.engine) as session:
            return list_requests(session)

    def ask(self, *uids: str) -> Any:
        """Let Orthanc ask for instances, and return what it was told."""
        wanted = {"DicomInstances": [[CTImageStorage, uid] for uid in uids]}
        path = self.orthanc.post("modalities/LUNGNODE/storage-commitment", wanted)["Path"].strip("/")

        def told() -> Any:
            self.work()
            answer = self.orthanc.get(path)
            return None if answer["Status"] == "Pending" else answer

        return wait_for(told, what="Orthanc's report")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    images = folder / "images"
    images.mkdir()
    for ds in slices(range(1, 6)):
        write(ds, images / f"{ds.InstanceNumber}.dcm")
    with (
        running_receiver(folder, processes=1) as receiver,
        running_orthanc(folder, {"LUNGNODE": receiver.port}) as orthanc,
    ):
        known = Peer(name="ct", ae_title="ORTHANC", host="127.0.0.1", port=orthanc.dicom_port)
        settings = Settings(data=receiver.data, peers=(known,))
        engine = open_engine(settings.database)
        upgrade(engine)
        orthanc.keep(*sorted(images.iterdir()))
        orthanc.post("modalities/LUNGNODE/store", [each["ID"] for each in orthanc.get("studies?expand")])
        yield Pair(orthanc, engine, settings)
        engine.dispose()


def test_orthanc_is_told_that_its_instances_are_kept(pair: Pair) -> None:
    answer = pair.ask(*(f"{STUDY}.1.{number}" for number in range(1, 6)))

    assert (answer["Status"], answer["Failures"], len(answer["Success"])) == ("Success", [], 5)
    assert pair.requests()[0].state == "reported"


def test_orthanc_is_told_which_instance_fails_and_why(pair: Pair) -> None:
    kept: Path = pair.settings.archive / STUDY / f"{STUDY}.1.3.dcm"
    kept.write_bytes(kept.read_bytes()[:-1])

    answer = pair.ask(f"{STUDY}.1.2", f"{STUDY}.1.3", "1.2.840.99999.404")

    assert answer["Status"] == "Failure"
    assert {each["SOPInstanceUID"]: int(each["FailureReason"]) for each in answer["Failures"]} == {
        f"{STUDY}.1.3": 0x0110,
        "1.2.840.99999.404": 0x0112,
    }
    assert [each["SOPInstanceUID"] for each in answer["Success"]] == [f"{STUDY}.1.2"]


@dataclass
class Delivering:
    """A delivery of ours to Orthanc, which reports to the pair's receiver."""

    pair: Pair
    courier: Courier
    delivery_id: int

    def node(self) -> Node:
        """A delivery worker's."""
        return replace(
            self.courier.node,
            settings=self.courier.node.settings.model_copy(
                update={"commitment": CommitmentSettings(linger_s=0.0)}
            ),
        )

    def deliver_and_ask(self) -> None:
        """Send what is due, and ask whether it is kept."""
        deliver_row(self.node(), self.delivery_id)
        confirm_due(self.node())

    def take_report(self) -> None:
        """Let the clerk take Orthanc's report."""
        wait_for(lambda: list(self.pair.settings.spool.glob("*/*.event")), what="the report")
        Clerk(self.courier.engine, self.pair.settings, Event(), lambda: self.courier.now).round()

    def ended(self) -> Delivery:
        """The delivery as it is, with its confirmation."""
        with transaction(self.courier.engine) as session:
            row = session.get_one(Delivery, self.delivery_id)
            assert row.confirmation is not None
            return row


def delivering(pair: Pair, courier: MakeCourier, **changes: str) -> Delivering:
    to = dimse(pair.orthanc.dicom_port, ae_title="ORTHANC", timeout_s=30.0, **changes)
    node, (delivery_id,) = courier(to, "sc", captures=3, state="complete", revision=1)
    return Delivering(pair, node, delivery_id)


def test_orthanc_commits_to_what_it_stored_on_a_new_association(pair: Pair, courier: MakeCourier) -> None:
    it = delivering(pair, courier)

    it.deliver_and_ask()
    it.take_report()

    row = it.ended()
    assert (row.state, row.confirmation.method) == ("committed", "commitment")  # type: ignore[union-attr]


def test_what_orthanc_lost_is_sent_again_and_committed(pair: Pair, courier: MakeCourier) -> None:
    it = delivering(pair, courier)
    deliver_row(it.node(), it.delivery_id)
    lost = it.ended().instances[1]["sop_instance_uid"]
    wanted = {"Level": "Instance", "Query": {"SOPInstanceUID": lost}}
    (found,) = pair.orthanc.post("tools/find", wanted)
    pair.orthanc.delete(f"instances/{found}")

    confirm_due(it.node())
    it.take_report()
    assert (it.ended().state, it.ended().reason) == (
        "pending",
        f"The destination does not keep 1 of 3 instances; {lost}: 0x0112.",
    )
    it.courier.now = it.ended().due_at
    it.deliver_and_ask()
    it.take_report()

    assert it.ended().state == "committed"


def test_an_orthanc_that_cannot_report_to_us_is_asked_by_c_find(pair: Pair, courier: MakeCourier) -> None:
    it = delivering(pair, courier, calling_ae_title="UNKNOWN")

    for _ in range(3):
        it.deliver_and_ask()
        it.courier.now += timedelta(seconds=700)

    row = it.ended()
    assert (row.state, row.confirmation.method) == ("committed", "query")  # type: ignore[union-attr]
