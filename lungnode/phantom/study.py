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
MIN_SIZE, MAX_SIZE = 64, 1024  # of the matrix: what the shapes are drawn for


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


# What all phantoms share. Source: PS3.3 A.3, CT Image IOD; type 2 attributes that we do not know stay empty.
_SHARED: Final[dict[str, object]] = {
    "SOPClassUID": CTImageStorage,
    "StudyDate": "20200401",
    "StudyTime": "120000",
    "SeriesDate": "20200401",
    "SeriesTime": "120000",
    "AcquisitionDate": "20200401",
    "AcquisitionTime": "120000",
    "ContentDate": "20200401",
    "ContentTime": "120000",
    "ReferringPhysicianName": "",
    "StudyDescription": "Chest phantom",
    "SeriesNumber": 1,
    "AcquisitionNumber": 1,
    "Modality": "CT",
    "Manufacturer": "Lungnode",
    "ManufacturerModelName": "Phantom",
    "BodyPartExamined": "CHEST",
    "PatientPosition": "HFS",
    "PositionReferenceIndicator": "",
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "KVP": "120",
    "ConvolutionKernel": "PHANTOM",
    "GantryDetectorTilt": "0",
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
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


@dataclass(frozen=True)
class _Order:
    """What was asked for: it names every UID, so that other pixels never share one."""

    slices: int
    lesions: bool
    seed: int
    size: int
    patient: Patient

    def uid(self, what: str) -> str:
        return f"2.25.{uuid5(NAMESPACE_OID, f'lungnode phantom/{self}/{what}').int}"

    @property
    def pixel_mm(self) -> float:
        return FIELD_OF_VIEW_MM / self.size


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
    if not (1 <= slices <= MAX_SLICES and MIN_SIZE <= size <= MAX_SIZE):
        raise UnusableError(
            f"A phantom has 1 to {MAX_SLICES} slices of {MIN_SIZE} to {MAX_SIZE} pixels a side; "
            f"got {slices} of {size}."
        )
    order = _Order(slices, lesions, seed, size, patient or Patient())
    out.mkdir(parents=True, exist_ok=True)
    paths, lung, ill = [], [], []
    for index, one in enumerate(draw(slices, size, seed, lesions=lesions)):
        paths.append(out / f"{index + 1:04d}.dcm")
        _image(order, index, one).save_as(paths[-1], enforce_file_format=True)
        lung += [index] * one.shows_lung
        ill += [index] * one.shows_lesion
    first, last = (lung[0], lung[-1]) if lung else (-1, -1)
    return PhantomStudy(order.uid("study"), order.uid("series"), tuple(paths), first, last, tuple(ill))


def _image(order: _Order, index: int, one: Slice) -> Dataset:
    corner = -FIELD_OF_VIEW_MM / 2 + order.pixel_mm / 2
    ds = _series(order)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.ImplementationClassUID = IMPLEMENTATION_UID
    ds.file_meta.ImplementationVersionName = "LUNGNODE_PHANTOM"
    ds.SOPInstanceUID = order.uid(f"slice {index}")
    ds.InstanceNumber = index + 1
    ds.ImagePositionPatient = [f"{corner:.4f}", f"{corner:.4f}", f"{one.z_mm:.4f}"]
    ds.SliceLocation = f"{one.z_mm:.4f}"
    ds.PixelData = np.clip(np.rint(one.hu) - INTERCEPT, 0, 4095).astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def _series(order: _Order) -> Dataset:
    """Fill what all slices of one study share."""
    ds, thickness = Dataset(), CHEST_MM / order.slices
    ds.SpecificCharacterSet = order.patient.character_set
    for keyword, value in _SHARED.items():
        setattr(ds, keyword, value)
    ds.PatientName = order.patient.name
    ds.PatientID = order.patient.patient_id
    ds.PatientBirthDate = order.patient.birth_date
    ds.PatientSex = order.patient.sex
    ds.StudyInstanceUID = order.uid("study")
    ds.SeriesInstanceUID = order.uid("series")
    ds.FrameOfReferenceUID = order.uid("frame of reference")
    ds.AccessionNumber = f"PH{order.seed}"
    ds.StudyID = str(order.seed)
    ds.SeriesDescription = f"Thorax {thickness:.1f} mm, synthetic"
    ds.SliceThickness = f"{thickness:.4f}"
    ds.PixelSpacing = [f"{order.pixel_mm:.6f}"] * 2
    ds.Rows = ds.Columns = order.size
    return ds
