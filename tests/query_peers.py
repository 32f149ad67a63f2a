"""PACS that can be asked and fetched from: DCMTK's dcmqrscp, and one that answers what a test says."""

import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, Final

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.events import EventHandlerType

from daemon.pull.retrieve import GET_MODELS, MOVE_MODELS
from lungnode.scu.find import FIND_MODELS
from lungnode.settings import Peer
from tests.nodes import stop, wait_for
from tests.orthanc import free_port
from tests.spooling import STUDY, ct

_DCMQRSCP: Final = """
NetworkTCPPort  = {port}
MaxPDUSize      = 131072
MaxAssociations = 16
HostTable BEGIN
{hosts}
all = {names}
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
PACS {folder} RW (50, 512mb) ANY
AETable END
"""


@dataclass(frozen=True)
class DcmtkPacs:
    """A running dcmqrscp; its AE title is PACS."""

    port: int
    log: Path

    def peer(self, **values: Any) -> Peer:
        """Return how it is called."""
        return Peer(**{"name": "PACS", "ae_title": "PACS", "host": "127.0.0.1", "port": self.port} | values)

    def keep(self, *paths: Path) -> None:
        """Store files there, as a modality does."""
        command = ("storescu", "-aec", "PACS", "127.0.0.1", str(self.port), *map(str, paths))
        subprocess.run(command, check=True, env={"TCP_NODELAY": "1"}, timeout=120)


@contextmanager
def dcmtk_pacs(folder: Path, destinations: Mapping[str, int] | None = None) -> Iterator[DcmtkPacs]:
    """Run dcmqrscp while the block runs; `destinations` are ports of the AE titles it may move to."""
    program = shutil.which("dcmqrscp")
    if program is None:
        pytest.skip("DCMTK is absent: apt install dcmtk")
    storage, port = folder / "storage", free_port()
    storage.mkdir(parents=True)
    known = destinations or {"NOBODY": 1}
    hosts = "\n".join(f"host{i} = ({ae}, localhost, {to})" for i, (ae, to) in enumerate(known.items()))
    names = ", ".join(f"host{i}" for i in range(len(known)))
    config = folder / "dcmqrscp.cfg"
    config.write_text(_DCMQRSCP.format(port=port, hosts=hosts, names=names, folder=storage))
    log = folder / "dcmqrscp.log"
    with log.open("wb") as output:
        process = subprocess.Popen((program, "-v", "-c", str(config)), stdout=output, stderr=output)
        pacs = DcmtkPacs(port, log)
        try:
            wait_for(lambda: _answers(pacs), what="dcmqrscp")
            yield pacs
        finally:
            stop(process)


def _answers(pacs: DcmtkPacs) -> bool:
    command = ("echoscu", "-aec", "PACS", "127.0.0.1", str(pacs.port))
    return subprocess.run(command, check=False, capture_output=True, timeout=20).returncode == 0


Answer = tuple[int, Dataset | None]
Script = Callable[[Dataset], Sequence[Answer]]


@dataclass
class ScriptedPacs:
    """A peer that answers a C-FIND with what `script` makes of the identifier."""

    script: Script
    port: int = 0
    asked: list[Dataset] = field(default_factory=list)  # also what is not answered yet

    def peer(self, **values: Any) -> Peer:
        """Return how it is called; it must answer within 30 s unless the test says otherwise."""
        own: dict[str, Any] = {"name": "PACS", "ae_title": "PACS", "host": "127.0.0.1", "port": self.port}
        return Peer(**own | {"query": "study_root", "timeout_s": 30.0} | values)

    def on_find(self, event: evt.Event) -> Iterator[Answer]:
        """Answer a C-FIND."""
        self.asked.append(event.identifier)
        yield from self.script(event.identifier)


@contextmanager
def scripted_pacs(
    script: Script, *classes: str, handlers: Sequence[EventHandlerType] = (), sends: bool = True
) -> Iterator[ScriptedPacs]:
    """Run such a peer while the block runs.

    Args:
        script: Its answers to a C-FIND.
        classes: What it supports, instead of both models of C-FIND.
        handlers: Serve other requests.
        sends: Whether it takes us for a Storage SCP when we say so.
    """
    entity = AE(ae_title="PACS")
    for uid in classes or FIND_MODELS.values():
        if uid == CTImageStorage and sends:
            entity.add_supported_context(uid, scu_role=False, scp_role=True)
        else:
            entity.add_supported_context(uid)
    pacs = ScriptedPacs(script)
    every: list[EventHandlerType] = [(evt.EVT_C_FIND, pacs.on_find), *handlers]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=every)
    assert server is not None
    pacs.port = server.server_address[1]
    try:
        yield pacs
    finally:
        # It looks for its end every 0.5 s; no test need wait for that.
        Thread(target=server.shutdown).start()


def matches(*values: Mapping[str, Any]) -> list[Answer]:
    """Return answers with these attributes, and the success after them."""
    return [*((0xFF00, _identifier(each)) for each in values), (0x0000, None)]


def _identifier(values: Mapping[str, Any]) -> Dataset:
    identifier = Dataset()
    for keyword, value in values.items():
        setattr(identifier, keyword, value)
    return identifier


def stored(number: int, **attributes: Any) -> Dataset:
    """A slice as a PACS has it."""
    ds = ct(number, **attributes)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


@contextmanager
def getting_pacs(handler: Any, *, sends: bool = True, model: str = "study_root") -> Iterator[ScriptedPacs]:
    """A PACS with one study of one CT series, whose C-GET and C-MOVE are served by `handler`."""
    handlers: list[EventHandlerType] = [(evt.EVT_C_GET, handler), (evt.EVT_C_MOVE, handler)]
    classes = (FIND_MODELS["study_root"], GET_MODELS[model], MOVE_MODELS["study_root"], CTImageStorage)
    told = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": f"{STUDY}.1", "Modality": "CT"}
    with scripted_pacs(lambda _: matches(told), *classes, handlers=handlers, sends=sends) as pacs:
        yield pacs
