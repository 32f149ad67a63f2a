"""A PACS that stores, commits and is asked, as it is told: scripted, for what no real peer does on demand."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Thread
from time import sleep
from typing import Final

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import EventHandlerType

from lungnode.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE
from tests.couriers import ALL, CLASSES
from tests.dicom_wire import VERIFICATION
from tests.nodes import wait_for

STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
_REPORTS: Final = 50  # before it gives up


@dataclass
class Archive:
    """What it is told to do, and what happened."""

    reports_to: int | None = None  # port of a receiver; 0: on the association that asked; None: never
    failures: dict[str, int] = field(default_factory=dict)  # Failure Reason by SOP Instance UID
    unmentioned: set[str] = field(default_factory=set)
    action_status: int = 0x0000
    knows_images: bool = True  # whether it answers at the IMAGE level
    when_asked: Callable[[], object] = lambda: None
    port: int = 0
    stored: list[str] = field(default_factory=list)
    held: dict[str, Dataset] = field(default_factory=dict)
    asked: list[Dataset] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)  # levels

    def on_store(self, event: evt.Event) -> int:
        """Keep an instance."""
        uid = str(event.file_meta.MediaStorageSOPInstanceUID)
        self.stored.append(uid)
        self.held[uid] = event.dataset
        return 0x0000

    def on_action(self, event: evt.Event) -> tuple[int, None]:
        """Take a request, and report afterwards."""
        self.asked.append(event.action_information)
        self.when_asked()
        if self.action_status == 0x0000 and self.reports_to is not None:
            Thread(target=self._report, args=(event.assoc, event.action_information)).start()
        return self.action_status, None

    def on_find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        """Answer from what is held."""
        wanted = event.identifier
        self.queries.append(wanted.QueryRetrieveLevel)
        if wanted.QueryRetrieveLevel == "IMAGE" and not self.knows_images:
            yield 0xA900, None
            return
        series: dict[str, int] = {}
        for ds in self.held.values():
            series[ds.SeriesInstanceUID] = series.get(ds.SeriesInstanceUID, 0) + 1
            if wanted.QueryRetrieveLevel == "IMAGE" and ds.SeriesInstanceUID == wanted.SeriesInstanceUID:
                yield 0xFF00, _match(SOPInstanceUID=ds.SOPInstanceUID, SOPClassUID=ds.SOPClassUID)
        if wanted.QueryRetrieveLevel == "SERIES":
            for uid, count in series.items():
                yield 0xFF00, _match(SeriesInstanceUID=uid, NumberOfSeriesRelatedInstances=str(count))

    def report(self, request: Dataset, port: int) -> None:
        """Report on a new association, again until somebody answers."""
        entity = AE(ae_title="PACS")
        entity.add_requested_context(PUSH_MODEL)
        role = build_role(PUSH_MODEL, scp_role=True)
        for _ in range(_REPORTS):
            association = entity.associate("127.0.0.1", port, ae_title="LUNGNODE", ext_neg=[role])
            if association.is_established:
                with suppress(RuntimeError):  # it ended at once
                    self._send(association, request)
                    association.release()
                    return
            sleep(0.2)

    def _report(self, association: Association, request: Dataset) -> None:
        if self.reports_to:
            self.report(request, self.reports_to)
        else:
            wait_for(lambda: association.is_established and _is_idle(association), what="the response")
            self._send(association, request)

    def _send(self, association: Association, request: Dataset) -> None:
        ds = Dataset()
        ds.TransactionUID = request.TransactionUID
        ds.ReferencedSOPSequence, failed = [], []
        for reference in request.ReferencedSOPSequence:
            uid = reference.ReferencedSOPInstanceUID
            if uid in self.failures:
                reference.FailureReason = self.failures[uid]
                failed.append(reference)
            elif uid not in self.unmentioned:
                ds.ReferencedSOPSequence.append(reference)
        if failed:
            ds.FailedSOPSequence = failed
        answer, _ = association.send_n_event_report(ds, 2 if failed else 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)
        self.answers.append(answer.get("Status", -1))


def _is_idle(association: Association) -> bool:
    # The thread that serves the association sends the N-ACTION-RSP before it looks for the next message.
    return not association._reactor_checkpoint.is_set() or association.dimse.msg_queue.empty()


def _match(**values: str) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


@contextmanager
def archive(*without: str, **changes: object) -> Iterator[Archive]:
    """Run such a PACS; `without` are SOP classes that it does not offer."""
    entity = AE(ae_title="PACS")
    for uid in CLASSES.values():
        entity.add_supported_context(uid, list(ALL))
    for service in {VERIFICATION, PUSH_MODEL, STUDY_ROOT_FIND} - set(without):
        entity.add_supported_context(service, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    peer = Archive(**changes)  # type: ignore[arg-type]
    handlers: list[EventHandlerType] = [
        (evt.EVT_C_STORE, peer.on_store),
        (evt.EVT_N_ACTION, peer.on_action),
        (evt.EVT_C_FIND, peer.on_find),
    ]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    peer.port = server.server_address[1]
    try:
        yield peer
    finally:
        server.shutdown()
