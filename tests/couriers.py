"""Couriers for tests: a node with composed outputs, and Storage SCPs that answer as they are told."""

import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any, Protocol

import numpy as np
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from pynetdicom import AE, evt
from pynetdicom.events import EventHandlerType
from pynetdicom.pdu import P_DATA_TF
from sqlalchemy import Engine

from db.models import Analysis, Delivery, DeliveryState, Output, Study
from db.session import transaction
from lungnode import codes
from lungnode.settings import DeliverySettings, Destination, DicomDestination, Peer, Settings
from worker.courier import deliver_row
from worker.hold import Node

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
CLASSES = {
    "sr": Comprehensive3DSRStorage,
    "sr-comp": ComprehensiveSRStorage,
    "sr-enh": EnhancedSRStorage,
    "sc": SecondaryCaptureImageStorage,
}
LIMITS = DeliverySettings(backoff_s=5, max_attempts=4, slowest_bytes_s=1_000_000_000)
ALL = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless)


@dataclass
class Pacs:
    """A Storage SCP that keeps what it gets and answers with the statuses it was given, then with 0x0000."""

    port: int = 0
    answers: list[int | Dataset] = field(default_factory=list)
    stored: list[tuple[str, str, bytes]] = field(default_factory=list)  # UID, transfer syntax, data set
    associations: int = 0
    on_first_data: Callable[[], object] = lambda: None  # called once, when the first P-DATA-TF has come

    def on_pdu(self, event: evt.Event) -> None:
        """See what arrives before it is whole."""
        if isinstance(event.pdu, P_DATA_TF):
            act, self.on_first_data = self.on_first_data, lambda: None
            act()

    def on_store(self, event: evt.Event) -> int | Dataset:
        """Answer a C-STORE."""
        answer = self.answers.pop(0) if self.answers else 0x0000
        if answer == 0x0000:
            uid = str(event.file_meta.MediaStorageSOPInstanceUID)
            self.stored.append((uid, str(event.context.transfer_syntax), event.encoded_dataset(False)))
        return answer

    def on_accept(self, _event: evt.Event) -> None:
        """Count an association."""
        self.associations += 1


@contextmanager
def pacs(
    classes: dict[str, tuple[str, ...]] | None = None, required_ae: str = "", *answers: int | Dataset
) -> Iterator[Pacs]:
    entity = AE(ae_title="PACS")
    entity.require_called_aet = False
    if required_ae:
        entity.require_calling_aet = [required_ae]
    for uid, transfer_syntaxes in (classes or dict.fromkeys(CLASSES.values(), ALL)).items():
        entity.add_supported_context(uid, list(transfer_syntaxes))
    peer = Pacs(answers=list(answers))
    handlers: list[EventHandlerType] = [
        (evt.EVT_C_STORE, peer.on_store),
        (evt.EVT_ACCEPTED, peer.on_accept),
        (evt.EVT_PDU_RECV, peer.on_pdu),
    ]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    peer.port = server.server_address[1]
    try:
        yield peer
    finally:
        server.shutdown()


def dimse(port: int, **changes: Any) -> DicomDestination:
    """A PACS on this machine, as a destination."""
    values = {"name": "PACS", "ae_title": "PACS", "host": "127.0.0.1", "port": port, "timeout_s": 20.0}
    return DicomDestination(**(values | changes))


@dataclass
class Courier:
    """A node with one analysis whose outputs are on disk, and the destination of its deliveries."""

    engine: Engine
    folder: Path
    destination: Destination
    peers: tuple[Peer, ...] = ()
    now: datetime = NOON
    stopping: bool = False

    @property
    def node(self) -> Node:
        """A delivery worker's."""
        settings = Settings(
            data=self.folder, destinations=(self.destination,), peers=self.peers, delivery=LIMITS
        )
        return Node(self.engine, settings, lambda: self.stopping, lambda: self.now)

    def deliver(self, row_id: int) -> list[int]:
        """Try one delivery once."""
        return deliver_row(self.node, row_id)

    def row(self, row_id: int) -> Delivery:
        """Return what is written down."""
        with transaction(self.engine) as session:
            return session.get_one(Delivery, row_id)

    def deliver_until_it_ends(self, row_id: int) -> Delivery:
        """Try again whenever it is due."""
        for _ in range(20):
            self.deliver(row_id)
            row = self.row(row_id)
            if row.state != DeliveryState.PENDING:
                return row
            self.now = row.due_at
        raise AssertionError(f"the delivery never ends: {row.reason}")


def deliver_in_a_process(courier: Courier, row_id: int) -> "subprocess.Popen[bytes]":
    """Try one delivery in a process of its own, which a test may kill."""
    settings = courier.node.settings
    program = (
        "import sys; from db.session import open_engine; from lungnode.settings import Settings\n"
        "from worker.courier import deliver_row; from worker.hold import Node\n"
        "settings = Settings.model_validate_json(sys.argv[1])\n"
        "deliver_row(Node(open_engine(settings.database), settings, lambda: False), int(sys.argv[2]))"
    )
    return subprocess.Popen((sys.executable, "-c", program, settings.model_dump_json(), str(row_id)))


class MakeCourier(Protocol):
    """Makes a courier and the deliveries of the groups asked for, with so many instances in "sc"."""

    def __call__(
        self, to: int | Destination, *groups: str, captures: int = 1, **study: Any
    ) -> tuple[Courier, list[int]]:
        """Return the courier, and the deliveries' numbers."""
        ...


def courier_maker(engine: Engine, folder: Path) -> MakeCourier:
    """Make what makes couriers with this database; their outputs are in `folder`."""

    def make(
        to: int | Destination, *groups: str, captures: int = 1, **study: Any
    ) -> tuple[Courier, list[int]]:
        destination = dimse(to) if isinstance(to, int) else to
        outputs = [
            output_of(folder, group) for group in CLASSES for _ in range(captures if group == "sc" else 1)
        ]
        with transaction(engine) as session:
            row = Study(**{"study_instance_uid": "1.2.3", "created_at": NOON, "changed_at": NOON, **study})
            analysis = Analysis(study=row, revision=1, created_at=NOON, due_at=NOON, outputs=outputs)
            session.add(analysis)
            session.flush()
            of_all = {"analysis_id": analysis.id, "destination": destination.name}
            rows = [Delivery(**of_all, group=group, due_at=NOON, created_at=NOON) for group in groups]
            session.add_all(rows)
            session.flush()
            return Courier(engine, folder, destination), [row.id for row in rows]

    return make


def output_of(folder: Path, group: str) -> Output:
    """A composed object of a group, on disk."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID = CLASSES[group], generate_uid(), "1.2.3"
    ds.SeriesInstanceUID, ds.PatientID = generate_uid(), "P"
    ds.ensure_file_meta()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if group == "sc":
        _add_pixels(ds)
    if group == "sr":
        _add_result(ds)
    path = folder / "outputs" / f"{ds.SOPInstanceUID}.dcm"
    path.parent.mkdir(exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return Output(
        group=group,
        sop_class_uid=ds.SOPClassUID,
        sop_instance_uid=ds.SOPInstanceUID,
        series_instance_uid=ds.SeriesInstanceUID,
        path=path.name,
        size=path.stat().st_size,
        digest="",
    )


def _add_result(ds: Dataset) -> None:
    """What a message needs of a report."""
    ds.SpecificCharacterSet, ds.PatientName = "ISO_IR 192", "Grün^Jérôme"
    ds.ContentDate, ds.ContentTime = "20260102", "120000"
    tracking, presence = _item(codes.TRACKING_UID), _item(codes.PRESENCE)
    tracking.UID = "2.25.1"
    presence.ConceptCodeSequence = [_code(codes.PRESENT)]
    conclusion = _item(codes.CONCLUSION)
    conclusion.TextValue = "Found."
    ds.ContentSequence = [tracking, presence, conclusion]


def _item(name: Code) -> Dataset:
    item = Dataset()
    item.ConceptNameCodeSequence = [_code(name)]
    return item


def _code(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = (
        code.value,
        code.scheme_designator,
        code.meaning,
    )
    return item


def _add_pixels(ds: Dataset) -> None:
    ds.Rows = ds.Columns = 16
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    pixels = np.arange(16 * 16 * 3, dtype=np.uint16).astype(np.uint8).reshape(16, 16, 3)
    ds.compress(RLELossless, pixels, generate_instance_uid=False)


def encoded(courier: Courier, group: str) -> bytes:
    """The data set of the group's file, as it lies on disk behind the File Meta group."""
    with transaction(courier.engine) as session:
        path = session.query(Output).filter_by(group=group).one().path
    content = (courier.folder / "outputs" / path).read_bytes()
    length = struct.unpack_from("<I", content, 140)[0]  # (0002,0000) at 132: tag 4, VR 2, length 2, value 4
    return content[144 + length :]


@contextmanager
def hostile(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """A peer that accepts connections and then does what no peer should; gives its port."""
    done = Event()
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def serve() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                with suppress(OSError):  # the other side may have given up
                    behave(connection)
                done.wait()

        thread = Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            done.set()
            thread.join()


def accept_association(connection: socket.socket, transfer_syntax: str = RLELossless) -> None:
    """Answer an A-ASSOCIATE-RQ by hand: the first context in a transfer syntax."""
    head = connection.recv(6, socket.MSG_WAITALL)
    connection.recv(struct.unpack(">L", head[2:])[0], socket.MSG_WAITALL)

    def item(kind: int, content: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(content)) + content

    context = item(0x21, b"\x01\0\0\0" + item(0x40, transfer_syntax.encode()))
    user = item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3"))
    fixed = struct.pack(">HH16s16s32x", 1, 0, b"PACS".ljust(16), b"LUNGNODE".ljust(16))
    body = fixed + item(0x10, b"1.2.840.10008.3.1.1.1") + context + user
    connection.sendall(struct.pack(">BBL", 2, 0, len(body)) + body)
