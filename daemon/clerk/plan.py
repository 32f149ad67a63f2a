"""What becomes of each received file, decided before anything is moved or written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedSRStorage,
    LegacyConvertedEnhancedCTImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
)

from daemon.clerk.duplicates import conflict_reason
from daemon.clerk.header import Header
from daemon.clerk.spool import Association
from db.models import Disposition, Instance
from lungnode.rejection import Note
from lungnode.rules import Facts
from lungnode.store import Store, StoredFile

# A new one of these makes a complete study receive again; a dose report or another node's result does not.
ANALYSED_CLASSES: Final = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_OWN_MANUFACTURER: Final = "Lungnode"
_OWN_CLASSES: Final = (
    BasicTextSRStorage,
    EnhancedSRStorage,
    ComprehensiveSRStorage,
    Comprehensive3DSRStorage,
    SecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
)
_SAME_BYTES: Final = "Came again with the same bytes."
_ANEW: Final = "Came anew with other bytes after its file was deleted, so the two could not be compared."


@dataclass(frozen=True)
class Received:
    """One file to be indexed; without an association it lies in the archive already."""

    path: Path
    association: Association | None = None


@dataclass(frozen=True)
class Reading:
    """What a file says and is."""

    received: Received
    header: Header
    digest: str
    size: int
    received_at: datetime
    note: Note | None = None  # what it says as a rejection note

    @property
    def facts(self) -> Facts:
        """Who sent it, by its association or else by its File Meta group, and what rules look at."""
        own = self.header.facts
        sender = self.received.association.facts if self.received.association else Facts()
        return Facts(
            calling_ae_title=sender.calling_ae_title or own.calling_ae_title,
            called_ae_title=sender.called_ae_title or own.called_ae_title,
            address=sender.address,
            attributes=own.attributes,
        )


@dataclass(frozen=True)
class Known:
    """What the database knows about the files at hand."""

    instances: Mapping[str, Sequence[Instance]]  # by SOP Instance UID, the first to come first
    own_sop_uids: frozenset[str] = frozenset()
    own_series_uids: frozenset[str] = frozenset()

    def is_own(self, header: Header) -> bool:
        """Whether an instance is one of our results, by its UIDs or by its own words."""
        own_words = header.manufacturer == _OWN_MANUFACTURER and header.sop_class_uid in _OWN_CLASSES
        return (
            own_words
            or header.sop_instance_uid in self.own_sop_uids
            or header.series_instance_uid in self.own_series_uids
        )


@dataclass(frozen=True)
class Plan:
    """What becomes of one file: a new instance, or a note on the one it repeats."""

    reading: Reading
    disposition: Disposition
    note: str = ""
    repeats: Instance | None = None
    copies: tuple[Reading, ...] = ()  # files of this batch with the same bytes
    anew: bool = False  # the file of `repeats` was deleted: this one takes its place


def make_plans(readings: Sequence[Reading], known: Known, archive: Store) -> list[Plan]:
    """Decide on each file; a second one of the same UID with other bytes is left for the next batch."""
    first: dict[str, Plan] = {}
    for reading in readings:
        uid = reading.header.sop_instance_uid
        if uid not in first:
            first[uid] = _plan(reading, known, archive)
        elif first[uid].reading.digest == reading.digest:
            again = first[uid]
            note = again.note or (_SAME_BYTES if reading.received.association else "")
            first[uid] = replace(again, note=note, copies=(*again.copies, reading))
    return list(first.values())


def _plan(reading: Reading, known: Known, archive: Store) -> Plan:
    header = reading.header
    held = known.instances.get(header.sop_instance_uid, ())
    for instance in held:
        if instance.digest == reading.digest:
            note = _SAME_BYTES if reading.received.association else ""
            return Plan(reading, Disposition(instance.disposition), note, instance)
    if known.is_own(header):
        return Plan(reading, Disposition.OWN_OUTPUT)
    reason = ""
    for instance in held:
        if instance.deleted_at is not None and _is_of_study(instance, header):
            return Plan(reading, Disposition(instance.disposition), _ANEW, instance, anew=True)
        reason = _reason(reading, instance, archive)
        if not reason:
            note = f"Came again with the same pixels in {header.transfer_syntax_uid}; that copy was not kept."
            return Plan(reading, Disposition(instance.disposition), note, instance)
    return Plan(reading, Disposition.CONFLICT if held else Disposition.ARCHIVED, reason)


def _reason(reading: Reading, instance: Instance, archive: Store) -> str:
    if not _is_of_study(instance, reading.header):
        return "The SOP Instance UID is taken by an instance of another study."
    (first,) = archive.fetch([StoredFile.of(instance)])
    if not first.exists():
        return "The file that came first is gone, so the two cannot be compared."
    try:
        return conflict_reason(first, reading.received.path)
    except OSError as error:
        return f"The two cannot be compared: {error.strerror}."


def _is_of_study(instance: Instance, header: Header) -> bool:
    return Path(instance.path).parent.name == header.study_instance_uid
