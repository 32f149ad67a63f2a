"""Orthanc, in both roles of storage commitment: it asks us and is told on a new association."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from pydicom.uid import CTImageStorage
from sqlalchemy import Engine

from daemon.clerk.desk import CommitmentDesk
from daemon.clerk.main import Clerk, now_utc
from db.commitments import list_requests
from db.models import CommitmentRequest, CommitmentState
from db.session import open_engine, transaction, upgrade
from lungnode.settings import Peer, Settings
from tests.nodes import wait_for
from tests.orthanc import Orthanc, running_orthanc
from tests.receiving import running_receiver
from tests.spooling import STUDY, slices, write
from worker.commitment import report_row
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
