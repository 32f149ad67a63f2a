"""What all our objects say of themselves: identity, series, equipment and time."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cache
from importlib.metadata import version
from io import BytesIO
from typing import Final

from highdicom.base_content import ContributingEquipment
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
)

from lungnode import codes
from lungnode.identifiers import derive_uid
from lungnode.rejection import title_of
from worker.outputs.source import decoded, patient_and_study
from worker.result import Context

MANUFACTURER: Final = "Lungnode"
BODY_PART: Final = "CHEST"
LOSSY_COMPRESSION: Final = (
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
SOURCE_CHARACTER_SET: Final = "+src"  # ends the name of a group that is encoded as its source is


@dataclass(frozen=True)
class Kind:
    """What a group consists of."""

    sop_class_uid: UID
    modality: str
    series_number: int
    series_description: str


# The groups of outputs. Each SOP class is another object with other UIDs, chosen by what a peer accepts.
KINDS: Final = {
    "sr": Kind(Comprehensive3DSRStorage, "SR", 9001, "Lungnode report"),
    "sr-comp": Kind(ComprehensiveSRStorage, "SR", 9001, "Lungnode report"),
    "sr-enh": Kind(EnhancedSRStorage, "SR", 9001, "Lungnode report"),
    "sc": Kind(SecondaryCaptureImageStorage, "OT", 9002, "Lungnode heatmap"),
    "sc-multi": Kind(MultiFrameTrueColorSecondaryCaptureImageStorage, "OT", 9002, "Lungnode heatmap"),
    "pm": Kind(ParametricMapStorage, "OT", 9003, "Lungnode class activation"),
    "kos": Kind(KeyObjectSelectionDocumentStorage, "KO", 9004, "Lungnode key images"),
}
# Composed of outputs, not of a finding: no analysis makes it.
_REJECTION: Final = Kind(KeyObjectSelectionDocumentStorage, "KO", 9005, "Lungnode rejection note")


def kind_of(group: str) -> Kind:
    """Return what `group` consists of, whatever its character set."""
    base = group.removesuffix(SOURCE_CHARACTER_SET)
    return _REJECTION if title_of(base) else KINDS[base]


def series_uid(context: Context, group: str) -> UID:
    """Return the Series Instance UID of a group: one for a study, model, revision and kind."""
    return derive_uid("series", context.study_instance_uid, context.model_digest, context.revision, group)


def instance_uid(context: Context, group: str, *key: str | int) -> UID:
    """Return the SOP Instance UID of the object of a group that `key` names."""
    return derive_uid("instance", series_uid(context, group), *key)


def device_uid(context: Context) -> UID:
    """Return the UID of the device that this model makes: another model, another device."""
    return derive_uid("device", context.model_digest)


def moment(context: Context, source: Dataset) -> datetime:
    """Return the time of the analysis in the zone that the source's times are in, where it says one.

    Source: PS3.3 C.12.1.1.8, Timezone Offset From UTC applies to all times of an object.
    """
    at = datetime.fromisoformat(context.created_at)
    offset = str(source.get("TimezoneOffsetFromUTC") or "")
    if not re.fullmatch(r"[+-](0\d|1[0-4])[0-5]\d", offset):
        return at
    minutes = int(offset[1:3]) * 60 + int(offset[3:])
    return at.astimezone(timezone(timedelta(minutes=minutes if offset[0] == "+" else -minutes)))


def header(
    source: Dataset, context: Context, group: str, *, number: int, key: Collection[str | int]
) -> Dataset:
    """Return the attributes that an object of `group` has whatever it shows.

    Args:
        source: An image of the study.
        context: Of the analysis.
        group: A key of `KINDS`, with or without the suffix for the source's character set.
        number: Its Instance Number.
        key: Tells it from the other objects of its group.
    """
    kind = kind_of(group)
    at = moment(context, source)
    made = patient_and_study(source, context.corrected)
    made.StudyInstanceUID = context.study_instance_uid
    made.update(decoded(source, ("TimezoneOffsetFromUTC",)))
    made.SOPClassUID = kind.sop_class_uid
    made.SOPInstanceUID = instance_uid(context, group, *key)
    made.Modality = kind.modality
    made.SeriesInstanceUID = series_uid(context, group)
    made.SeriesNumber = kind.series_number
    made.SeriesDescription = kind.series_description
    made.InstanceNumber = number
    for name in ("InstanceCreation", "Series", "Content"):
        setattr(made, f"{name}Date", at.strftime("%Y%m%d"))
        setattr(made, f"{name}Time", at.strftime("%H%M%S"))
    _describe_device(made, context, at)
    return made


@cache
def _version() -> str:
    return version("lungnode")  # read from a file, each time


def _describe_device(made: Dataset, context: Context, at: datetime) -> None:
    software = f"{MANUFACTURER} {_version()}"
    model = f"{context.model_name} {context.model_version}"
    made.Manufacturer = MANUFACTURER
    made.ManufacturerModelName = context.model_name[:64]
    made.DeviceSerialNumber = context.model_digest
    made.SoftwareVersions = [software, model[:64]]
    equipment = ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=codes.PROCESSING_EQUIPMENT,
        manufacturer_model_name=context.model_name[:64],
        software_versions=[software, model[:64]],
        device_serial_number=context.model_digest,
        contribution_datetime=at.strftime("%Y%m%d%H%M%S%z"),
        contribution_description="Analysis of the study and making of this object",
    )
    equipment.DeviceUID = device_uid(context)
    made.ContributingEquipmentSequence = [equipment]


def add_source_facts(made: Dataset, source: Dataset) -> None:
    """Say of an image of ours what its source decides: the body part, and whether a loss was ever made.

    Source: PS3.3 C.7.3.1, without Body Part Examined Laterality is required, and a study of both lungs has
    none; C.7.6.1.1.5, what was once compressed with a loss stays so.
    """
    made.update(decoded(source, ("BodyPartExamined", *LOSSY_COMPRESSION)))
    made.BodyPartExamined = made.get("BodyPartExamined") or BODY_PART


def with_file_meta(made: Dataset, transfer_syntax: UID = ExplicitVRLittleEndian) -> Dataset:
    """Give an object the File Meta Information it is stored with, and return it."""
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.file_meta.TransferSyntaxUID = transfer_syntax
    return made


def encode(made: Dataset) -> bytes:
    """Return the object as a DICOM file."""
    encoded = BytesIO()
    made.save_as(encoded, enforce_file_format=True)
    return encoded.getvalue()
