"""Storage commitment in both directions while every program of the node is killed again and again."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from threading import Event, Thread
from time import sleep
from typing import Final

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from sqlalchemy import Engine, select

from db.commitments import list_requests
from db.models import CommitmentRequest, Confirmation, Delivery
from db.session import open_engine, transaction, upgrade
from lungnode.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE
from lungnode.settings import Settings
from tests.committing import Archive, archive
from tests.couriers import courier_maker
from tests.dicom_wire import CT_IMAGE_STORAGE
from tests.nodes import command, embedded_broker, stop, variables, wait_for
from tests.orthanc import free_port
from tests.spooling import ct

SEED: Final = 20260305
BLOWS: Final = 6
TRANSACTIONS: Final = 6
LIMIT_S: Final = 120.0
PROGRAMS: Final = (("receive",), ("clerk",), ("worker", "--queue", "delivery"))
_SETTINGS: Final = """
[receiver]
host = "127.0.0.1"
port = {receiver}
processes = 1
disk_warn_bytes = 0
disk_reject_bytes = 0
[clerk]
poll_s = 0.1
sweep_s = 0.5
[delivery]
lease_s = 3.0
backoff_s = 0.5
backoff_max_s = 1.0
max_attempts = 100
[commitment]
answer_s = 5.0
[[peers]]
name = "ct"
ae_title = "SCANNER"
host = "127.0.0.1"
port = {scanner}
timeout_s = 5.0
[[destinations]]
name = "PACS"
ae_title = "PACS"
host = "127.0.0.1"
port = {pacs}
timeout_s = 5.0
confirm = "commitment"
"""


@dataclass
class Program:
    """One program that is started again whenever it was killed."""

    data: Path
    arguments: tuple[str, ...]
    environment: dict[str, str]
    process: "Popen[bytes] | None" = None

    def start(self) -> None:
        """Run it."""
        with (self.data / "programs.log").open("ab") as log:
            line = command(self.data, *self.arguments)
            self.process = Popen(line, env=self.environment, stdout=log, stderr=log)

    def kill(self) -> None:
        """Kill -9, and start it again."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.start()

    def stop(self) -> None:
        """End it for good."""
        if self.process is not None:
            stop(self.process)


@dataclass
class Scanner:
    """A scanner that asks until it is told what it wants to hear, waiting for it or not."""

    to: int
    port: int
    reported: dict[str, set[str]] = field(default_factory=dict)  # committed instances by Transaction UID
    failed: list[str] = field(default_factory=list)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take reports on new associations."""
        entity = AE(ae_title="SCANNER")
        entity.add_supported_context(PUSH_MODEL, scu_role=False, scp_role=True)
        place = ("127.0.0.1", self.port)
        server = entity.start_server(
            place, block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._on_report)]
        )
        assert server is not None
        try:
            yield
        finally:
            server.shutdown()

    def ask(self, transaction_uid: str, images: list[Dataset], *, waits: bool) -> None:
        """Store instances and ask for their commitment, again and again until both are answered."""
        while not self._try(transaction_uid, images, waits=waits):
            sleep(0.1)

    def _try(self, transaction_uid: str, images: list[Dataset], *, waits: bool) -> bool:
        entity = AE(ae_title="SCANNER")
        entity.add_requested_context(CT_IMAGE_STORAGE, ExplicitVRLittleEndian)
        entity.add_requested_context(PUSH_MODEL)
        entity.acse_timeout = entity.dimse_timeout = 5
        association = entity.associate(
            "127.0.0.1",
            self.to,
            ae_title="LUNGNODE",
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._on_report)],
        )
        try:
            if not all(association.send_c_store(image).get("Status") == 0 for image in images):
                return False
            request = Dataset()
            request.TransactionUID = transaction_uid
            request.ReferencedSOPSequence = [_reference(image) for image in images]
            status, _ = association.send_n_action(request, 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)
            if waits:  # on the same association, for a while
                Event().wait(1.0)
            return bool(status.get("Status", -1) == 0)
        except (RuntimeError, ValueError):  # the receiver was killed
            return False
        finally:
            association.abort() if not waits else association.release()

    def _on_report(self, event: evt.Event) -> tuple[int, None]:
        told = event.event_information
        committed = {str(each.ReferencedSOPInstanceUID) for each in told.get("ReferencedSOPSequence", ())}
        self.reported.setdefault(str(told.TransactionUID), set()).update(committed)
        self.failed += [str(each.ReferencedSOPInstanceUID) for each in told.get("FailedSOPSequence", ())]
        return 0x0000, None


def _reference(image: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return item


def _image(number: int) -> Dataset:
    image = ct(number)
    image.ensure_file_meta()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image


@dataclass
class Node:
    """The three programs that storage commitment needs, their peers, and the database."""

    programs: list[Program]
    scanner: Scanner
    pacs: Archive
    engine: Engine
    data: Path

    def strike(self, chance: random.Random) -> None:
        """Kill one program after another, at random moments."""
        for _ in range(BLOWS):
            sleep(chance.uniform(0.3, 2.5))
            chance.choice(self.programs).kill()


@contextmanager
def _running(folder: Path) -> Iterator[Node]:
    receiver, scanner_port = free_port(), free_port()
    data, config = folder / "data", folder / "lungnode.toml"
    data.mkdir()
    with ExitStack() as stack:
        pacs = stack.enter_context(archive(reports_to=receiver))
        config.write_text(_SETTINGS.format(receiver=receiver, scanner=scanner_port, pacs=pacs.port))
        stack.enter_context(embedded_broker(Settings(data=data)))
        engine = open_engine(f"sqlite:///{data / 'lungnode.sqlite3'}")
        stack.callback(engine.dispose)
        upgrade(engine)
        scanner = Scanner(receiver, scanner_port)
        stack.enter_context(scanner.listening())
        programs = [Program(data, each, variables({"LUNGNODE_CONFIG": str(config)})) for each in PROGRAMS]
        for program in programs:
            program.start()
            stack.callback(program.stop)
        wait_for((data / "receiver.json").is_file, limit_s=60, what="the receiver")
        yield Node(programs, scanner, pacs, engine, data)


def _requests(engine: Engine) -> list[CommitmentRequest]:
    with transaction(engine) as session:
        return list_requests(session)


def _confirmed(engine: Engine) -> tuple[list[str], list[str]]:
    with transaction(engine) as session:
        states = [row.state for row in session.scalars(select(Confirmation))]
        return states, [row.state for row in session.scalars(select(Delivery))]


# pynetdicom 3.0.4 drops the socket of a connection that was refused without closing it.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_every_request_is_reported_and_every_delivery_committed_whatever_is_killed(tmp_path: Path) -> None:
    with _running(tmp_path) as node:
        _, deliveries = courier_maker(node.engine, node.data)(
            node.pacs.port, "sr", "sc", captures=5, state="complete", revision=1
        )
        wanted = {f"1.2.9.{number}": [_image(10 * number + each) for each in range(3)] for number in range(6)}
        asking = [
            Thread(target=node.scanner.ask, args=(uid, images), kwargs={"waits": number % 2 == 0})
            for number, (uid, images) in enumerate(wanted.items())
        ]
        for thread in asking:
            thread.start()
        node.strike(random.Random(SEED))  # noqa: S311 - moments, not secrets

        for thread in asking:
            thread.join(LIMIT_S)
        wait_for(
            lambda: [row.state for row in _requests(node.engine)] == ["reported"] * TRANSACTIONS,
            LIMIT_S,
            "all reports",
        )
        wait_for(
            lambda: (
                _confirmed(node.engine) == (["confirmed"] * len(deliveries), ["committed"] * len(deliveries))
            ),
            LIMIT_S,
            "all confirmations",
        )

    expected = {uid: {str(image.SOPInstanceUID) for image in images} for uid, images in wanted.items()}
    assert (node.scanner.reported, node.scanner.failed) == (expected, [])
    assert len(node.pacs.held) == 1 + 5
