from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from pynetdicom import AE, evt
from pynetdicom.events import EventHandlerType

from lungnode.settings import DicomDestination
from worker.carriers.dimse import storing


def look_first(event: evt.Event) -> None:
    """Do what pynetdicom's association thread does after an answer came, where it missed that it is paused.

    The transition follows the answer's arrival in the same thread, so nobody is faster.
    """
    event.assoc.dimse.get_msg(block=False)


def test_an_answer_reaches_the_asker_though_the_association_thread_looks_first(tmp_path: Path) -> None:
    path = instance(tmp_path / "instance.dcm")
    proposed: dict[str, set[str]] = {SecondaryCaptureImageStorage: {ExplicitVRLittleEndian}}

    with pacs() as destination, storing(destination, "LUNGNODE", proposed) as scp:
        scp._association.bind(evt.EVT_FSM_TRANSITION, look_first)
        answer = scp.store(path, ExplicitVRLittleEndian, SecondaryCaptureImageStorage)

    assert answer.status == "0x0000"


def instance(path: Path) -> Path:
    """A data set that is hardly more than its UIDs."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    ds.ensure_file_meta()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(path, enforce_file_format=True)
    return path


@contextmanager
def pacs() -> Iterator[DicomDestination]:
    """A Storage SCP that answers everything with success."""
    entity = AE(ae_title="PACS")
    entity.add_supported_context(SecondaryCaptureImageStorage)
    handlers: list[EventHandlerType] = [(evt.EVT_C_STORE, lambda _event: 0x0000)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield DicomDestination(
            name="PACS", ae_title="PACS", host="127.0.0.1", port=server.server_address[1], timeout_s=20
        )
    finally:
        server.shutdown()
