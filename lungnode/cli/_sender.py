"""Sends DICOM files as they are over one association, as a scanner would."""

from collections.abc import Sequence
from pathlib import Path

from pydicom.filereader import read_file_meta_info

from lungnode.errors import UnusableError
from lungnode.scu.association import describe
from lungnode.settings import DicomDestination
from worker.answers import Meaning
from worker.carriers.dimse import storing


def send(destination: DicomDestination, calling_ae_title: str, paths: Sequence[Path]) -> int:
    """Send all DICOM files of `paths` and return how many there were.

    Raises:
        UnusableError: There is none, or the peer refused one.
        UnavailableError: The peer gives no association.
    """
    kinds = {path: kind for path in paths if (kind := _kind(path)) is not None}
    if not kinds:
        raise UnusableError("There is no DICOM file to send.")
    proposed: dict[str, set[str]] = {}
    for sop_class_uid, transfer_syntax_uid in kinds.values():
        proposed.setdefault(sop_class_uid, set()).add(transfer_syntax_uid)
    with storing(destination, calling_ae_title, proposed) as scp:
        for path, (sop_class_uid, transfer_syntax_uid) in kinds.items():
            answer = scp.store(path, transfer_syntax_uid, sop_class_uid)
            if answer.meaning is not Meaning.STORED:
                said = f"answered {answer.status}" if answer.status else "gave no answer"
                raise UnusableError(f"{describe(destination)} {said} to {path.name}.")
    return len(kinds)


def _kind(path: Path) -> tuple[str, str] | None:
    """Return SOP class and transfer syntax; None for a file that is no DICOM file."""
    try:
        meta = read_file_meta_info(path)
        return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)
    except Exception:  # noqa: BLE001 - untrusted bytes: what is no DICOM file is not sent
        return None
