"""A stand-in for a PACS: a Storage SCP in its own process that keeps what it gets as files in a folder."""

import json
import sys
from pathlib import Path
from signal import SIGTERM, signal
from threading import Event
from types import FrameType
from typing import Final

from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.events import EventHandlerType
from pynetdicom.presentation import PresentationContext

from lungnode.errors import UnavailableError

_TRANSFER_SYNTAXES: Final = (
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
    "1.2.840.10008.1.2.5",  # RLE Lossless
)
_VERIFICATION: Final = "1.2.840.10008.1.1"


def serve(folder: Path, stopping: Event) -> None:
    """Keep every instance as `<SOP Instance UID>.dcm` until `stopping`; `port.json` says where we listen."""
    entity = AE(ae_title="STANDIN")
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(_uid(context), list(_TRANSFER_SYNTAXES))
    entity.add_supported_context(_VERIFICATION)
    handlers: list[EventHandlerType] = [(evt.EVT_C_STORE, _keep, [folder])]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    if server is None:
        raise UnavailableError("The stand-in PACS cannot listen on 127.0.0.1.")
    _write(folder / "port.json", json.dumps({"port": server.server_address[1]}).encode())
    stopping.wait()
    server.shutdown()


def _uid(context: PresentationContext) -> str:
    return str(context.abstract_syntax)


def _keep(event: evt.Event, folder: Path) -> int:
    # The bytes as received, behind a File Meta group of our own.
    _write(folder / f"{event.file_meta.MediaStorageSOPInstanceUID}.dcm", event.encoded_dataset())
    return 0x0000


def _write(path: Path, content: bytes) -> None:
    partial = path.with_suffix(".part")
    partial.write_bytes(content)
    partial.rename(path)


def main() -> None:
    """Serve the folder that is the only argument until SIGTERM."""
    stopping = Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal(SIGTERM, stop)
    serve(Path(sys.argv[1]), stopping)


if __name__ == "__main__":
    main()
