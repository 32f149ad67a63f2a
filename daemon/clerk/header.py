"""The attributes of one received file that the index needs, read from untrusted bytes."""

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.datadict import tag_for_keyword
from pydicom.tag import Tag

from daemon.clerk.inflate import check_inflated_size
from lungnode.errors import UnusableError
from lungnode.rules import Facts
from lungnode.untrusted import BoundedFile, plain

_UIDS: Final = ("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID")
# Column of the study, attribute, and how much of it the column holds.
_TEXTS: Final = (
    ("patient_id", "PatientID", 255),
    ("patient_name", "PatientName", 255),
    ("patient_birth_date", "PatientBirthDate", 16),
    ("patient_sex", "PatientSex", 16),
    ("accession_number", "AccessionNumber", 64),
    ("study_date", "StudyDate", 16),
    ("study_description", "StudyDescription", 255),
)
_OTHERS: Final = (
    "IssuerOfPatientID",
    "Modality",
    "Manufacturer",
    "InstanceNumber",
    "NumberOfFrames",
    "ImagesInAcquisition",
    "AcquisitionNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
)
# Source: PS3.5 9.1. Leading zeros are against the rule but common, and harm neither paths nor peers.
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)+")
_UID_LENGTH: Final = 64
_INT32: Final = 2**31


@dataclass(frozen=True)
class Header:
    """What one instance says of itself; its UIDs are safe in a path."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    modality: str
    manufacturer: str
    issuer_of_patient_id: str
    instance_number: int | None
    number_of_frames: int
    images_in_acquisition: int | None
    acquisition_number: int | None
    image_position: list[float] | None
    image_orientation: list[float] | None
    study_texts: Mapping[str, str]  # by column of the study
    facts: Facts  # the sender from the File Meta group, and what the rules look at


def read_header(path: Path, rule_keywords: Iterable[str] = ()) -> Header:
    """Read a file's header without its pixels.

    Raises:
        UnusableError: It is no DICOM file, or a UID is missing or invalid.
        OSError: The file cannot be read.
    """
    keywords = (*_UIDS, *(keyword for _, keyword, _ in _TEXTS), *_OTHERS, *rule_keywords)
    tags = [tag for tag in map(tag_for_keyword, keywords) if tag is not None]
    with BoundedFile(path) as file, disable_value_validation(), warnings.catch_warnings():
        # A warning quotes the value, which may be a patient's name.
        warnings.simplefilter("ignore")
        try:
            check_inflated_size(path)
            ds = dcmread(file, stop_before_pixels=True, specific_tags=tags)
            return _header(ds, _uids(ds), rule_keywords)
        except (UnusableError, MemoryError):
            raise
        except Exception as error:  # damaged data sets make pydicom raise almost anything
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's; pydicom's own have no number
            # Its message may quote a value, so only its class is told.
            reason = f"The file cannot be parsed as DICOM ({type(error).__name__})."
            raise UnusableError(reason) from error


def _uids(ds: Dataset) -> list[str]:
    values = [ds.get(keyword) for keyword in _UIDS]
    faults = [_fault(keyword, value) for keyword, value in zip(_UIDS, values, strict=True)]
    if any(faults):
        raise UnusableError(" ".join(fault for fault in faults if fault))
    return [str(value) for value in values]


def _fault(keyword: str, value: object) -> str:
    name = f"{keyword} {Tag(keyword)}"
    if value is None or value == "":
        return f"{name} is {'missing' if value is None else 'empty'}."
    if not isinstance(value, str) or len(value) > _UID_LENGTH or not _UID.fullmatch(value):
        return f"{name} is no UID after PS3.5 9.1: {str(value)[:80]!r}."
    return ""


def _header(ds: Dataset, uids: list[str], rule_keywords: Iterable[str]) -> Header:
    meta = ds.file_meta
    facts = Facts(
        calling_ae_title=_text(meta.get("SourceApplicationEntityTitle"), 16),
        called_ae_title=_text(meta.get("ReceivingApplicationEntityTitle"), 16),
        attributes={keyword: _values(ds.get(keyword)) for keyword in rule_keywords},
    )
    return Header(
        sop_instance_uid=uids[0],
        sop_class_uid=uids[1],
        study_instance_uid=uids[2],
        series_instance_uid=uids[3],
        transfer_syntax_uid=_text(meta.TransferSyntaxUID, _UID_LENGTH),
        modality=_text(ds.get("Modality"), 16),
        manufacturer=_text(ds.get("Manufacturer"), 64),
        issuer_of_patient_id=_text(ds.get("IssuerOfPatientID"), 255),
        instance_number=_integer(ds.get("InstanceNumber")),
        number_of_frames=_integer(ds.get("NumberOfFrames")) or 1,
        images_in_acquisition=_integer(ds.get("ImagesInAcquisition")),
        acquisition_number=_integer(ds.get("AcquisitionNumber")),
        image_position=_numbers(ds.get("ImagePositionPatient"), 3),
        image_orientation=_numbers(ds.get("ImageOrientationPatient"), 6),
        study_texts={column: _text(ds.get(keyword), size) for column, keyword, size in _TEXTS},
        facts=facts,
    )


def _text(value: object, size: int) -> str:
    """Return a value as text that a column of `size` characters takes."""
    return "" if value is None else plain(value)[:size]


def _values(value: Any) -> tuple[str, ...]:
    if value is None or isinstance(value, str) or not hasattr(value, "__iter__"):
        return (_text(value, 1024),)
    return tuple(_text(each, 1024) for each in value)


def _integer(value: Any) -> int | None:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if -_INT32 <= number < _INT32 else None


def _numbers(value: Any, count: int) -> list[float] | None:
    try:
        numbers = [float(each) for each in value]
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None
