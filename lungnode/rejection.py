"""Rejection notes: Key Object Selections that say which instances do not count any more, and why.

Source: IHE RAD TF-2 4.66 (Imaging Object Change Management); PS3.16 CID 7011 and TID 2010.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import KeyObjectSelectionDocumentStorage

from lungnode import codes

SOP_CLASS: Final = KeyObjectSelectionDocumentStorage
GROUP: Final = "rn"  # of outputs: begins their names


class Title(StrEnum):
    """Code values of document titles that reject."""

    QUALITY = "113001"
    PATIENT_SAFETY = "113037"
    WORKLIST_ENTRY = "113038"
    RETENTION_EXPIRED = "113039"

    @property
    def code(self) -> Code:
        """The coded concept."""
        return _CODES[self]

    @property
    def is_about_content(self) -> bool:
        """Whether the instances were wrong; those whose time has come were not."""
        return self is not Title.RETENTION_EXPIRED


_CODES: Final = {
    Title.QUALITY: codes.REJECTED_FOR_QUALITY,
    Title.PATIENT_SAFETY: codes.REJECTED_FOR_SAFETY,
    Title.WORKLIST_ENTRY: codes.INCORRECT_WORKLIST_ENTRY,
    Title.RETENTION_EXPIRED: codes.RETENTION_EXPIRED,
}


@dataclass(frozen=True)
class Note:
    """What a rejection note says."""

    sop_instance_uid: str  # the note's own
    title: Title
    instances: tuple[tuple[str, str], ...]  # (Study, SOP Instance UID) each


def read_note(ds: Dataset) -> Note | None:
    """Return what a document says; None when it is no rejection note, or one that names nothing."""
    if ds.get("SOPClassUID") != SOP_CLASS:
        return None
    title = _title(ds)
    instances = tuple(dict.fromkeys(_references(ds)))
    return Note(str(ds.SOPInstanceUID), title, instances) if title and instances else None


def _title(ds: Dataset) -> Title | None:
    for item in ds.get("ConceptNameCodeSequence") or ():
        if item.get("CodingSchemeDesignator") == "DCM" and item.get("CodeValue") in set(Title):
            return Title(item.CodeValue)
    return None


def _references(ds: Dataset) -> Iterator[tuple[str, str]]:
    """Yield what the document rests on: the whole of what it rejects, which its content only repeats."""
    for study in ds.get("CurrentRequestedProcedureEvidenceSequence") or ():
        for series in study.get("ReferencedSeriesSequence") or ():
            for instance in series.get("ReferencedSOPSequence") or ():
                yield str(study.StudyInstanceUID), str(instance.ReferencedSOPInstanceUID)


def group_name(title: Title, number: int) -> str:
    """Return the name of an output group that rejects: several of one analysis differ in their number."""
    return f"{GROUP}-{title}-{number}"


def title_of(group: str) -> Title | None:
    """Return the title of an output group; None when it is no rejection note."""
    base, _, rest = group.partition("-")
    return Title(rest.partition("-")[0]) if base == GROUP else None
