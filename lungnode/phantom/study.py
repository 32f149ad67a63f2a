"""A synthetic chest CT study as DICOM files, for demonstrations, tests and load: no patient is needed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import NAMESPACE_OID, uuid5

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from lungnode.errors import UnusableError
from lungnode.phantom.body import CHEST_MM
from lungnode.phantom.volume import FIELD_OF_VIEW_MM, Slice, draw

IMPLEMENTATION_UID: Final = UID(f"2.25.{uuid5(NAMESPACE_OID, 'lungnode phantom').int}")
INTERCEPT: Final = -1024
MAX_SLICES: Final = 2000


@dataclass(frozen=True)
class Patient:
    """Who the phantom claims to be; text is encoded in `character_set` (0008,0005)."""

    name: str = "Phantom^Lungnode"
    patient_id: str = "PHANTOM"
    birth_date: str = "19700101"
    sex: str = "O"
    character_set: str | list[str] = "ISO_IR 100"


@dataclass(frozen=True)
class PhantomStudy:
    """What was written, and what is true of it; slices count from 0, top to bottom."""

    study_instance_uid: str
    series_instance_uid: str
    paths: tuple[Path, ...]
    first: int  # slice that shows lung
    last: int
    lesion_slices: tuple[int, ...]


def phantom_study(
    out: Path,
    slices: int = 60,
    lesions: bool = True,
    seed: int = 0,
    *,
    size: int = 512,
    patient: Patient | None = None,
) -> PhantomStudy:
    """Write a chest CT study into a folder, one file a slice.

    The same arguments write the same bytes, with the same UIDs.

    Raises:
        UnusableError: The number of slices or the matrix cannot be drawn.
    """
    if not (1 <= slices <= MAX_SLICES and 64 <= size <= 1024):  # noqa: PLR2004 - what the shapes are drawn for
        raise UnusableError(
            f"A phantom has 1 to {MAX_SLICES} slices of 64 to 1024 pixels, got {slices}, {size}."
        )
    who = patient or Patient()
    key = f"{seed}/{slices}/{lesions}/{size}/{who}"
    out.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    drawn = []
    for index, one in enumerate(draw(slices, size, seed, lesions=lesions)):
        ds = _common(key, slices, size, who, seed)
        _image(ds, key, index, one, size)
        paths.append(out / f"{index + 1:04d}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
        drawn.append((one.shows_lung, one.shows_lesion))
    lung = [index for index, (shows, _) in enumerate(drawn) if shows]
    return PhantomStudy(
        _uid(key, "study"),
        _uid(key, "series"),
        tuple(paths),
        lung[0] if lung else -1,
        lung[-1] if lung else -1,
        tuple(index for index, (_, shows) in enumerate(drawn) if shows),
    )


def _uid(key: str, what: str) -> str:
    return f"2.25.{uuid5(NAMESPACE_OID, f'lungnode phantom/{key}/{what}').int}"


def _common(key: str, slices: int, size: int, who: Patient, seed: int) -> Dataset:
    """Fill the modules that all slices share. Source: PS3.3 A.3, CT Image IOD."""
    ds = Dataset()
    ds.file_meta = _meta()
    pixel = FIELD_OF_VIEW_MM / size
    values: dict[str, object] = {
        "SpecificCharacterSet": who.character_set,
        "SOPClassUID": CTImageStorage,
        "StudyInstanceUID": _uid(key, "study"),
        "SeriesInstanceUID": _uid(key, "series"),
        "FrameOfReferenceUID": _uid(key, "frame of reference"),
        "PatientName": who.name,
        "PatientID": who.patient_id,
        "PatientBirthDate": who.birth_date,
        "PatientSex": who.sex,
        "StudyDate": "20200401",
        "StudyTime": "120000",
        "SeriesDate": "20200401",
        "SeriesTime": "120000",
        "AcquisitionDate": "20200401",
        "AcquisitionTime": "120000",
        "ContentDate": "20200401",
        "ContentTime": "120000",
        "AccessionNumber": f"PH{seed}",
        "ReferringPhysicianName": "",
        "StudyID": str(seed),
        "StudyDescription": "Chest phantom",
        "SeriesDescription": f"Thorax {CHEST_MM / slices:.1f} mm, synthetic",
        "SeriesNumber": 1,
        "AcquisitionNumber": 1,
        "Modality": "CT",
        "Manufacturer": "Lungnode",
        "ManufacturerModelName": "Phantom",
        "BodyPartExamined": "CHEST",
        "PatientPosition": "HFS",
        "PositionReferenceIndicator": "",
        "Laterality": None,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "KVP": "120",
        "ConvolutionKernel": "PHANTOM",
        "GantryDetectorTilt": "0",
        "SliceThickness": f"{CHEST_MM / slices:.4f}",
        "PixelSpacing": [f"{pixel:.6f}", f"{pixel:.6f}"],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": size,
        "Columns": size,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "RescaleIntercept": str(INTERCEPT),
        "RescaleSlope": "1",
        "RescaleType": "HU",
        "WindowCenter": "-600",
        "WindowWidth": "1500",
        "ImageComments": "Synthetic: no patient.",
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(ds, keyword, value)
    return ds


def _meta() -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    meta.ImplementationVersionName = "LUNGNODE_PHANTOM"
    return meta


def _image(ds: Dataset, key: str, index: int, one: Slice, size: int) -> None:
    corner = -FIELD_OF_VIEW_MM / 2 + FIELD_OF_VIEW_MM / size / 2
    ds.SOPInstanceUID = _uid(key, f"slice {index}")
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.InstanceNumber = index + 1
    ds.ImagePositionPatient = [f"{corner:.4f}", f"{corner:.4f}", f"{one.z_mm:.4f}"]
    ds.SliceLocation = f"{one.z_mm:.4f}"
    stored = np.clip(np.rint(one.hu) - INTERCEPT, 0, 4095).astype("<u2")
    ds.PixelData = stored.tobytes()
    ds["PixelData"].VR = "OW"
