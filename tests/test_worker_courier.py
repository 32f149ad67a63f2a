import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread, active_count
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
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
from sqlalchemy import Engine

from db.models import Analysis, Delivery, DeliveryState, Output, Study
from db.session import open_engine, transaction, upgrade
from lungnode.settings import DeliverySettings, Destination, Settings
from worker.courier import deliver_row
from worker.hold import Node

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
CLASSES = {
    "sr": Comprehensive3DSRStorage,
    "sr-comp": ComprehensiveSRStorage,
    "sr-enh": EnhancedSRStorage,
    "sc": SecondaryCaptureImageStorage,
}
LIMITS = DeliverySettings(backoff_s=5, max_attempts=4)
ALL = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Delivery knows no dialect: one database is enough here."""
    engine = open_engine(f"sqlite:///{tmp_path / 'lungnode.sqlite3'}")
    upgrade(engine)
    yield engine
    engine.dispose()


@dataclass
class Pacs:
    """A Storage SCP that keeps what it gets and answers with the statuses it was given, then with 0x0000."""

    port: int = 0
    answers: list[int | Dataset] = field(default_factory=list)
    stored: list[tuple[str, str, bytes]] = field(default_factory=list)  # UID, transfer syntax, data set
    associations: int = 0

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
    handlers: list[EventHandlerType] = [(evt.EVT_C_STORE, peer.on_store), (evt.EVT_ACCEPTED, peer.on_accept)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    peer.port = server.server_address[1]
    try:
        yield peer
    finally:
        server.shutdown()


@dataclass
class Courier:
    """A node with one analysis whose outputs are on disk."""

    engine: Engine
    folder: Path
    port: int
    now: datetime = NOON
    stopping: bool = False
    timeout_s: float = 2.0

    def deliver(self, row_id: int) -> list[int]:
        """Try one delivery once."""
        destination = Destination(
            name="PACS", ae_title="PACS", host="127.0.0.1", port=self.port, timeout_s=self.timeout_s
        )
        settings = Settings(data=self.folder, destinations=(destination,), delivery=LIMITS)
        return deliver_row(Node(self.engine, settings, lambda: self.stopping, lambda: self.now), row_id)

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


@pytest.fixture
def courier(engine: Engine, tmp_path: Path) -> Callable[..., tuple[Courier, list[int]]]:
    """Makes a courier and the deliveries of the groups asked for, with so many instances in "sc"."""

    def make(port: int, *groups: str, captures: int = 1) -> tuple[Courier, list[int]]:
        outputs = [
            _output(tmp_path, group) for group in CLASSES for _ in range(captures if group == "sc" else 1)
        ]
        with transaction(engine) as session:
            study = Study(study_instance_uid="1.2.3", created_at=NOON, changed_at=NOON)
            analysis = Analysis(study=study, revision=1, created_at=NOON, due_at=NOON, outputs=outputs)
            session.add(analysis)
            session.flush()
            rows = [
                Delivery(analysis_id=analysis.id, destination="PACS", group=g, due_at=NOON, created_at=NOON)
                for g in groups
            ]
            session.add_all(rows)
            session.flush()
            return Courier(engine, tmp_path, port), [row.id for row in rows]

    return make


def _output(folder: Path, group: str) -> Output:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID = CLASSES[group], generate_uid(), "1.2.3"
    ds.SeriesInstanceUID, ds.PatientID = generate_uid(), "P"
    ds.ensure_file_meta()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if group == "sc":
        _add_pixels(ds)
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


def test_a_stored_report_arrives_byte_for_byte(courier: Any) -> None:
    with pacs() as peer:
        node, (sr,) = courier(peer.port, "sr")
        node.deliver(sr)

    row = node.row(sr)
    assert (row.state, row.attempts, row.reason, row.finished_at) == (DeliveryState.STORED, 1, "", NOON)
    assert [record["status"] for record in row.instances] == ["0x0000"]
    assert [data for _, _, data in peer.stored] == [encoded(node, "sr")]


def test_a_compressed_capture_arrives_byte_for_byte_where_the_peer_takes_it(courier: Any) -> None:
    with pacs() as peer:
        node, (sc,) = courier(peer.port, "sc")
        node.deliver(sc)

    assert [(syntax, data) for _, syntax, data in peer.stored] == [(RLELossless, encoded(node, "sc"))]


def test_a_compressed_capture_is_decompressed_for_a_peer_that_takes_no_other(courier: Any) -> None:
    with pacs({SecondaryCaptureImageStorage: (ImplicitVRLittleEndian,)}) as peer:
        node, (sc,) = courier(peer.port, "sc")
        node.deliver(sc)

    uid, syntax, data = peer.stored[0]
    received = dcmread(DicomBytesIO(data), force=True)
    assert (node.row(sc).state, syntax) == (DeliveryState.STORED, ImplicitVRLittleEndian)
    assert received.PixelData == np.arange(16 * 16 * 3, dtype=np.uint16).astype(np.uint8).tobytes()
    assert received.SOPInstanceUID == uid == node.row(sc).instances[0]["sop_instance_uid"]


@pytest.mark.parametrize(
    ("taken", "group"),
    [
        ((EnhancedSRStorage, ComprehensiveSRStorage, Comprehensive3DSRStorage), "sr"),
        ((EnhancedSRStorage, ComprehensiveSRStorage), "sr-comp"),
        ((EnhancedSRStorage,), "sr-enh"),
    ],
)
def test_a_report_goes_in_the_best_class_that_the_peer_takes(
    courier: Any, taken: tuple[str, ...], group: str
) -> None:
    with pacs(dict.fromkeys(taken, ALL)) as peer:
        node, (sr,) = courier(peer.port, "sr")
        node.deliver(sr)

    assert (node.row(sr).state, node.row(sr).group) == (DeliveryState.STORED, group)
    assert [data for _, _, data in peer.stored] == [encoded(node, group)]


def test_the_class_of_a_report_never_changes_once_it_was_sent(courier: Any) -> None:
    with pacs(dict.fromkeys((ComprehensiveSRStorage,), ALL), "", 0xA700) as poor, pacs() as rich:
        node, (sr,) = courier(poor.port, "sr")
        node.deliver(sr)
        node.port, node.now = rich.port, node.row(sr).due_at
        node.deliver(sr)

    assert node.row(sr).state == DeliveryState.STORED
    assert [data for _, _, data in rich.stored] == [encoded(node, "sr-comp")]


def test_a_peer_that_takes_no_class_of_report_has_refused_it(courier: Any) -> None:
    with pacs({SecondaryCaptureImageStorage: ALL}) as peer:
        node, (sr,) = courier(peer.port, "sr")
        node.deliver(sr)

    assert node.row(sr).state == DeliveryState.REFUSED
    assert "accepts none of: Comprehensive 3D SR Storage" in node.row(sr).reason


def test_one_association_carries_a_whole_group(courier: Any) -> None:
    with pacs() as peer:
        node, (sc,) = courier(peer.port, "sc", captures=5)
        node.deliver(sc)

    assert (len(peer.stored), peer.associations) == (5, 1)


def test_heatmaps_wait_for_the_report_and_follow_it_over_the_same_association(courier: Any) -> None:
    with pacs() as peer:
        node, (sr, sc) = courier(peer.port, "sr", "sc")

        assert (node.deliver(sc), peer.associations) == ([], 0)
        assert (node.deliver(sr), peer.associations) == ([], 1)

    assert [row.state for row in map(node.row, (sr, sc))] == [DeliveryState.STORED, DeliveryState.STORED]
    assert [data for _, _, data in peer.stored] == [encoded(node, "sr"), encoded(node, "sc")]


def test_heatmaps_are_sent_though_the_report_was_refused(courier: Any) -> None:
    with pacs(None, "", 0x0124) as peer:
        node, (sr, sc) = courier(peer.port, "sr", "sc")

        node.deliver(sr)

    assert [row.state for row in map(node.row, (sr, sc))] == [DeliveryState.REFUSED, DeliveryState.STORED]


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_a_warning_counts_as_stored_and_is_kept(courier: Any, status: int) -> None:
    with pacs(None, "", status) as peer:
        node, (sr,) = courier(peer.port, "sr")
        node.deliver(sr)

    assert node.row(sr).state == DeliveryState.STORED
    assert node.row(sr).instances[0]["status"] == f"0x{status:04X}"


@pytest.mark.parametrize("status", [0x0117, 0x0122, 0x0124, 0xA900, 0xA9FF])
def test_a_permanent_refusal_ends_the_delivery_with_the_peers_words(courier: Any, status: int) -> None:
    answer = Dataset()
    answer.Status, answer.ErrorComment = status, "not for this archive"
    with pacs(None, "", answer) as peer:
        node, (sr,) = courier(peer.port, "sr")
        node.deliver(sr)

    row = node.row(sr)
    assert (row.state, row.attempts) == (DeliveryState.REFUSED, 1)
    assert f"0x{status:04X} (not for this archive)" in row.reason
    assert row.instances[0]["comment"] == "not for this archive"


def test_what_went_wrong_is_a_warning_without_the_peers_words(
    courier: Any, caplog: pytest.LogCaptureFixture
) -> None:
    answer = Dataset()
    answer.Status, answer.ErrorComment = 0x0124, "Roe^Jane is unknown"
    with pacs(None, "", answer) as peer:
        node, (report,) = courier(peer.port, "sr")
        node.deliver(report)

    (record,) = (each for each in caplog.records if each.name == "worker.courier")
    assert (record.levelname, "Roe" in record.message) == ("WARNING", False)
    assert f"delivery {report} of sr to PACS: refused. The destination answered 0x0124" in record.message


@pytest.mark.parametrize("status", [0x0110, 0xA700, 0xA7FF, 0x0210])
def test_a_transient_failure_is_tried_again_later_until_it_is_dead(courier: Any, status: int) -> None:
    with pacs(None, "", *[status] * 9) as peer:
        node, (sr,) = courier(peer.port, "sr")
        node.deliver(sr)
        first = node.row(sr)
        row = node.deliver_until_it_ends(sr)

    assert (first.state, first.due_at) == (DeliveryState.PENDING, NOON + timedelta(seconds=5))
    assert (row.state, row.attempts) == (DeliveryState.DEAD, 4)
    assert node.now == NOON + timedelta(seconds=5 + 10 + 20)


def test_cannot_understand_is_tried_three_times_and_then_refused(courier: Any) -> None:
    with pacs(None, "", 0xC000, 0xC123, 0xC000) as peer:
        node, (sr,) = courier(peer.port, "sr")
        row = node.deliver_until_it_ends(sr)

    assert (row.state, row.attempts) == (DeliveryState.REFUSED, 3)


def test_a_duplicate_after_a_courier_that_was_killed_counts_as_stored(courier: Any) -> None:
    with pacs(None, "", 0x0111) as peer:
        node, (sr,) = courier(peer.port, "sr")
        with transaction(node.engine) as session:
            session.get_one(Delivery, sr).attempts = 1  # its lease ran out; it had written nothing down
        node.deliver(sr)

    assert node.row(sr).state == DeliveryState.STORED


def test_a_duplicate_on_a_second_try_means_that_the_first_had_arrived(courier: Any) -> None:
    with pacs(None, "", 0xA700, 0x0111) as peer:
        node, (sr,) = courier(peer.port, "sr")
        row = node.deliver_until_it_ends(sr)

    assert (row.state, row.attempts) == (DeliveryState.STORED, 2)


def test_what_was_stored_is_not_sent_again(courier: Any) -> None:
    with pacs(None, "", 0x0000, 0xA700, 0x0000) as peer:
        node, (sc,) = courier(peer.port, "sc", captures=3)
        row = node.deliver_until_it_ends(sc)

    uids = [uid for uid, _, _ in peer.stored]
    assert (row.state, row.attempts, len(uids), len(set(uids))) == (DeliveryState.STORED, 2, 3, 3)


def test_one_refused_instance_refuses_the_group_after_the_others_were_stored(courier: Any) -> None:
    with pacs(None, "", 0x0000, 0xA900, 0x0000) as peer:
        node, (sc,) = courier(peer.port, "sc", captures=3)
        node.deliver(sc)

    assert node.row(sc).state == DeliveryState.REFUSED
    assert [record["status"] for record in node.row(sc).instances] == ["0x0000", "0xA900", "0x0000"]


def test_a_rejected_association_is_permanent_where_the_peer_says_so(courier: Any) -> None:
    with pacs(None, "SOMEBODY") as peer:  # result 1, rejected permanent: calling AE title not recognised
        node, (sr,) = courier(peer.port, "sr")
        node.deliver(sr)

    assert node.row(sr).state == DeliveryState.REFUSED
    assert "rejected the association: Calling AE title not recognised" in node.row(sr).reason


# pynetdicom 3.0.4 drops the socket of a connection that was refused without closing it.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_a_peer_that_is_down_is_tried_again(courier: Any, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    node, (sr,) = courier(port, "sr")
    node.deliver(sr)

    row = node.row(sr)
    assert (row.state, row.attempts, row.lease_owner) == (DeliveryState.PENDING, 1, "")
    assert "cannot be reached" in row.reason
    assert f"delivery {sr} of sr to PACS: pending. {row.reason}" in caplog.messages


def test_a_destination_that_the_settings_no_longer_name_is_told(courier: Any) -> None:
    node, (sr,) = courier(1, "sr")
    with transaction(node.engine) as session:
        session.get_one(Delivery, sr).destination = "ARCHIVE"

    node.deliver(sr)

    assert node.row(sr).state == DeliveryState.REFUSED
    assert node.row(sr).reason == "The settings name no destination 'ARCHIVE' any more."


def test_a_delivery_that_another_worker_has_is_left_alone(courier: Any) -> None:
    with pacs() as peer:
        node, (sr,) = courier(peer.port, "sr")
        with transaction(node.engine) as session:
            session.get_one(Delivery, sr).state = DeliveryState.SENDING
        node.deliver(sr)

    assert peer.associations == 0


def test_a_worker_that_stops_gives_the_delivery_back_without_an_attempt(courier: Any) -> None:
    with pacs() as peer:
        node, (sc,) = courier(peer.port, "sc", captures=3)
        node.stopping = True
        node.deliver(sc)

    row = node.row(sc)
    assert (row.state, row.attempts, row.lease_owner, peer.stored) == (DeliveryState.PENDING, 0, "", [])


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
                behave(connection)
                done.wait(30)

        thread = Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            done.set()
            thread.join()


def accept_association(connection: socket.socket) -> None:
    """Answer an A-ASSOCIATE-RQ by hand: the first context in its first transfer syntax."""
    head = connection.recv(6, socket.MSG_WAITALL)
    connection.recv(struct.unpack(">L", head[2:])[0], socket.MSG_WAITALL)

    def item(kind: int, content: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(content)) + content

    context = item(0x21, b"\x01\0\0\0" + item(0x40, RLELossless.encode()))
    user = item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3"))
    fixed = struct.pack(">HH16s16s32x", 1, 0, b"PACS".ljust(16), b"LUNGNODE".ljust(16))
    body = fixed + item(0x10, b"1.2.840.10008.3.1.1.1") + context + user
    connection.sendall(struct.pack(">BBL", 2, 0, len(body)) + body)


def say_nothing(_connection: socket.socket) -> None:
    pass


def answer_the_association_with_half_a_pdu(connection: socket.socket) -> None:
    connection.sendall(b"\x02\0\0\0\0\xb8\0\x01")


def accept_and_then_read_nothing(connection: socket.socket) -> None:
    accept_association(connection)


def accept_and_answer_with_half_a_pdu(connection: socket.socket) -> None:
    accept_association(connection)
    connection.sendall(b"\x04\0\0\0\0\x64\0")


def accept_and_talk_nonsense(connection: socket.socket) -> None:
    accept_association(connection)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def accept_and_hang_up(connection: socket.socket) -> None:
    accept_association(connection)
    connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "behave",
    [
        say_nothing,
        answer_the_association_with_half_a_pdu,
        accept_and_then_read_nothing,
        accept_and_answer_with_half_a_pdu,
        accept_and_talk_nonsense,
        accept_and_hang_up,
    ],
)
@pytest.mark.timeout(20)
def test_a_hostile_peer_costs_one_attempt_and_no_thread(
    courier: Any, behave: Callable[[socket.socket], None]
) -> None:
    threads = active_count()

    with hostile(behave) as port:
        node, (sc,) = courier(port, "sc")
        make_large(node, "sc")  # more than the buffers of both sides hold
        node.timeout_s = 0.5
        node.deliver(sc)

    row = node.row(sc)
    assert (row.state, row.attempts, row.lease_owner) == (DeliveryState.PENDING, 1, "")
    deadline = monotonic() + 10
    while active_count() > threads and monotonic() < deadline:
        sleep(0.02)  # the association's own threads notice its end within their time limits
    assert active_count() == threads


def make_large(courier: Courier, group: str) -> None:
    with transaction(courier.engine) as session:
        path = courier.folder / "outputs" / session.query(Output).filter_by(group=group).one().path
    ds = dcmread(path)
    ds.private_block(0x0099, "TEST", create=True).add_new(0x01, "OB", bytes(30_000_000))
    ds.save_as(path)
