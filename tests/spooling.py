"""A spool as the receiver leaves it, with small CT images in it."""

import fcntl
import json
import os
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from sqlalchemy import Engine, select
from sqlalchemy.orm import selectinload

from daemon.clerk.desk import CommitmentDesk
from daemon.clerk.main import Clerk
from db.models import Base, Study
from db.session import transaction
from lungnode.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE
from lungnode.settings import Settings

NOON: Final = datetime(2026, 3, 5, 12, 0, tzinfo=UTC)
STUDY: Final = "1.2.840.99999.1"
Row = TypeVar("Row", bound=Base)
AXIAL: Final = [1, 0, 0, 0, 1, 0]


def ct(number: int = 1, study: str = STUDY, **attributes: Any) -> Dataset:
    """A CT slice 2 mm above the one before; `attributes` replace or, when None, remove its own."""
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = UID(f"{study}.1.{number}")
    ds.StudyInstanceUID = UID(study)
    ds.SeriesInstanceUID = UID(f"{study}.1")
    ds.PatientName = "Doe^Jane"
    ds.PatientID = "4711"
    ds.Modality = "CT"
    ds.StudyDate = "20260305"
    ds.StudyDescription = "CT Thorax"
    ds.InstanceNumber = number
    ds.ImagePositionPatient = [0, 0, 2 * number]
    ds.ImageOrientationPatient = AXIAL
    ds.Rows = ds.Columns = 4
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.SamplesPerPixel = 1
    ds.PixelRepresentation = 0
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelData = np.full((4, 4), number, np.uint16).tobytes()
    with disable_value_validation():
        for name, new in attributes.items():
            ds.pop(name, None)  # an element keeps the validation it was made with
            if new is not None:
                setattr(ds, name, new)
    return ds


def slices(numbers: Iterable[int], study: str = STUDY, **attributes: Any) -> list[Dataset]:
    """CT slices with these numbers."""
    return [ct(number, study, **attributes) for number in numbers]


def write(ds: Dataset, path: Path | BytesIO, syntax: str = ExplicitVRLittleEndian) -> None:
    """Write a data set as the receiver does, with the sender in its File Meta group."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.file_meta.SourceApplicationEntityTitle = "SCANNER"
    ds.file_meta.ReceivingApplicationEntityTitle = "LUNGNODE"
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = UID(ds.get("SOPInstanceUID") or "1.2.3")
    with disable_value_validation():
        ds.save_as(path, enforce_file_format=True)


def _reference(ds: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    return item


@dataclass
class Sender:
    """One association as its spool folder shows it; open until `release`."""

    spool: Path
    name: str
    at: datetime = NOON  # when its files came
    calling_ae_title: str = "SCANNER"
    _lock: int = -1
    _count: int = field(default=0)

    def open(self) -> "Sender":
        """Make the folder and hold its lock, which its file has before it has its name."""
        self.folder.mkdir(parents=True)
        told = {
            "id": self.name,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "calling_ae_title": self.calling_ae_title,
            "called_ae_title": "LUNGNODE",
            "address": "192.0.2.7",
            "opened_at": self.at.isoformat(),
        }
        part = self.folder / "association.json.part"
        part.write_text(json.dumps(told))
        self._lock = os.open(part, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        part.rename(self.folder / "association.json")
        return self

    def send(self, *data_sets: Dataset) -> "Sender":
        """Store instances."""
        for ds in data_sets:
            self.put(lambda path, ds=ds: write(ds, path))  # type: ignore[misc]
        return self

    def put(self, make: Callable[[Path], object]) -> Path:
        """Store what `make` writes into the file it is given, which gets its name when it is whole."""
        self._count += 1
        part = self.folder / f"{self._count:08}.part"
        make(part)
        os.utime(part, (self.at.timestamp(), self.at.timestamp()))
        return part.rename(part.with_suffix(".dcm"))

    def ask(self, *data_sets: Dataset, transaction_uid: str = "1.2.3.4.5") -> Path:
        """Ask for the commitment of instances."""
        request = Dataset()
        request.TransactionUID = transaction_uid
        request.ReferencedSOPSequence = [_reference(ds) for ds in data_sets]
        return self.tell(request, "action")

    def tell(self, message: Dataset, kind: str) -> Path:
        """Leave a message of storage commitment: a request (action) or a report (event)."""
        self._count += 1
        path = self.folder / f"{self._count:08}.{kind}"
        message.SOPClassUID, message.SOPInstanceUID = PUSH_MODEL, PUSH_MODEL_INSTANCE
        write(message, path)
        return path

    def answer(self, request: Path, status: str = "0x0000") -> None:
        """Note what the peer said to the report of a request."""
        request.with_suffix(".reported").write_text(json.dumps({"status": status}))

    def release(self, outcome: str = "released") -> None:
        """End the association."""
        (self.folder / "ended.json").write_text(json.dumps({"outcome": outcome, "at": self.at.isoformat()}))
        self.lose()

    def lose(self) -> None:
        """Drop the lock as the kernel does when the receiver dies."""
        os.close(self._lock)

    @property
    def folder(self) -> Path:
        """The spool folder."""
        return self.spool / self.name


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now

    def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


@dataclass
class ClerkNode:
    """A clerk over an empty data folder, with a clock that the test sets."""

    engine: Engine
    settings: Settings
    clock: Clock = field(default_factory=Clock)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Start the clerk."""
        self.clerk = Clerk(self.engine, self.settings, self.stop, self.clock)

    def restart(self, **changes: Any) -> None:
        """Start another clerk in its place, with other settings."""
        self.settings = self.settings.model_copy(update=changes)
        self.__post_init__()

    def desk(self) -> CommitmentDesk:
        """The clerk's desk for storage commitment."""
        return CommitmentDesk(self.engine, self.settings, self.stop.is_set, self.clock)

    def sender(self, name: str = "a1", **changes: Any) -> Sender:
        """Open an association."""
        return Sender(self.settings.spool, name, self.clock(), **changes).open()

    def receive(self, *data_sets: Dataset, name: str = "a1") -> None:
        """Send instances over an association of their own, and index them."""
        self.sender(name).send(*data_sets).release()
        self.clerk.round()

    def rounds_after(self, seconds: float) -> list[int]:
        """Let time pass and the clerk look again; returns the analyses that it queued."""
        self.clock.pass_s(seconds)
        return self.clerk.round()

    def studies(self) -> dict[str, Study]:
        """All studies by UID, with their instances and analyses."""
        query = select(Study).options(selectinload(Study.instances), selectinload(Study.analyses))
        with transaction(self.engine) as session:
            return {study.study_instance_uid: study for study in session.scalars(query)}

    def study(self) -> Study:
        """The only study."""
        (study,) = self.studies().values()
        return study

    def rows(self, table: type[Row]) -> list[Row]:
        """All rows of a table."""
        with transaction(self.engine) as session:
            return list(session.scalars(select(table)))

    def archived(self) -> dict[str, str]:
        """SHA-256 of each file in the archive, by its path below it."""
        archive = self.settings.archive
        files = (path for path in archive.rglob("*") if path.is_file())
        return {str(path.relative_to(archive)): sha256(path.read_bytes()).hexdigest() for path in files}
