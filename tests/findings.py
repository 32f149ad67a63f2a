"""Studies and findings to compose outputs from: small, without pixels in files, of any character set."""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

from lungnode.pixels import Box, Gray
from worker.result import Context, SliceFinding, StudyFinding, Verdict

STUDY: Final = "1.2.826.0.1.3680043.10.1111.1"
SERIES: Final = f"{STUDY}.2"
FRAME_OF_REFERENCE: Final = f"{STUDY}.3"
DIGEST: Final = "0123456789abcdef" * 4
CREATED_AT: Final = "2026-03-04T05:06:07+00:00"

# Names of the Standard's own examples. Source: PS3.5 Annex H (Japanese), J (Chinese), PS3.5 6.1.2.3 and
# PS3.5 Annex K for the single-byte ones.
NAMES: Final = {
    "ascii": (None, "Doe^John^Q^Dr^Jr"),
    "latin-1": ("ISO_IR 100", "Buc^Jérôme"),
    "cyrillic": ("ISO_IR 144", "Люкceмбypг"),  # noqa: RUF001 - Cyrillic is meant
    "greek": ("ISO_IR 126", "Διονυσιος"),
    "japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "chinese-gb18030": ("GB18030", "Wang^XiaoDong=王^小东"),
    "chinese-gbk": ("GBK", "Wang^XiaoDong=王^小东"),
    "utf-8": ("ISO_IR 192", "Wang^XiaoDong=王^小東"),
}


@dataclass
class Study:
    """A study as the worker hands it to the outputs."""

    sources: dict[str, Dataset]
    slices: tuple[SliceFinding, ...]
    rows: int = 64
    columns: int = 96
    drawn: list[str] = field(default_factory=list)

    def gray(self, item: SliceFinding) -> Gray:
        """Any picture, the same for the same slice."""
        self.drawn.append(item.sop_instance_uid)
        ramp = np.add.outer(np.arange(self.rows), np.arange(self.columns)) + round(item.position_mm)
        return (ramp % 256).astype(np.uint8)


def context(**changes: Any) -> Context:
    """The context of an analysis."""
    values: dict[str, Any] = {
        "study_instance_uid": STUDY,
        "revision": 1,
        "created_at": CREATED_AT,
        "completeness": "quiet: no gaps",
        "model_name": "lungnode-resnet50",
        "model_version": "1.0",
        "model_digest": DIGEST,
        "heatmaps": 3,
    }
    return Context(**(values | changes))


def finding(study: Study, verdict: Verdict = Verdict.POSITIVE, **changes: Any) -> StudyFinding:
    """A finding of `verdict`; without slices where nothing was analysed."""
    analysed = verdict not in (Verdict.ERROR, Verdict.NOT_APPLICABLE)
    values: dict[str, Any] = {
        "verdict": verdict,
        "probability": 0.8125 if analysed else None,
        "threshold": 0.5,
        "reason": "" if verdict in (Verdict.POSITIVE, Verdict.NEGATIVE) else "The reason of it.",
        "series_instance_uid": SERIES,
        "choice": ("Series 2 was chosen: 5 axial slices.",),
        "slices": study.slices if analysed else (),
    }
    return StudyFinding(**(values | changes))


def ct_study(count: int = 5, **attributes: Any) -> Study:
    """A study of single-frame CT images as received, with these attributes in each; None is absent."""
    images = [as_received(_ct_image(index, attributes)) for index in range(count)]
    slices = tuple(slice_finding(image, index) for index, image in enumerate(images))
    return Study({image.SOPInstanceUID: image for image in images}, slices)


def enhanced_study(count: int = 5) -> Study:
    """The same as one Enhanced CT image."""
    image = as_received(_enhanced_image(count))
    slices = tuple(slice_finding(image, index, frame=index + 1) for index in range(count))
    return Study({image.SOPInstanceUID: image}, slices)


def slice_finding(image: Dataset, index: int, frame: int | None = None) -> SliceFinding:
    """A slice with one active place and a probability that rises and falls."""
    class_map = np.full((4, 5), 0.1, np.float32)
    class_map[index % 4, 2] = 0.9
    return SliceFinding(
        sop_class_uid=image.SOPClassUID,
        sop_instance_uid=image.SOPInstanceUID,
        frame=frame,
        position_mm=-5.0 * index,
        probability=0.5 + 0.4 * math.sin(index),
        class_map=class_map,
        box=Box(top=8, bottom=56, left=16, right=80),
    )


def as_received(image: Dataset) -> Dataset:
    """The image after a way through a file: text as bytes of its character set, decoded when asked for."""
    return dcmread(io.BytesIO(as_bytes(image)))


def as_bytes(image: Dataset) -> bytes:
    """The file of an image."""
    buffer = io.BytesIO()
    dcmwrite(buffer, image, enforce_file_format=True)
    return buffer.getvalue()


def elements(data_set: Dataset) -> Iterator[Any]:
    """All elements, those in sequences included."""
    yield from data_set.iterall()


def _ct_image(index: int, attributes: dict[str, Any]) -> Dataset:
    image = _study_attributes(CTImageStorage, f"{SERIES}.{index + 1}")
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.InstanceNumber = index + 1
    image.PixelSpacing = [0.75, 0.5]
    image.ImagePositionPatient = [-24.0, -30.5, -5.0 * index]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.SliceThickness = 5
    image.RescaleIntercept, image.RescaleSlope = -1024, 1
    image.KVP = 120
    for keyword, value in attributes.items():
        if value is not None:
            setattr(image, keyword, value)
        elif keyword in image:
            delattr(image, keyword)
    return image


def _enhanced_image(count: int) -> Dataset:
    image = _study_attributes(EnhancedCTImageStorage, f"{SERIES}.1")
    image.InstanceNumber = 1
    image.NumberOfFrames = count
    shared = Dataset()
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = [0.75, 0.5]
    shared.PixelMeasuresSequence[0].SliceThickness = 5
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = []
    for index in range(count):
        frame = Dataset()
        frame.PlanePositionSequence = [Dataset()]
        frame.PlanePositionSequence[0].ImagePositionPatient = [-24.0, -30.5, -5.0 * index]
        image.PerFrameFunctionalGroupsSequence.append(frame)
    return image


def _study_attributes(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = sop_class_uid, sop_instance_uid
    image.StudyInstanceUID, image.SeriesInstanceUID = STUDY, SERIES
    image.FrameOfReferenceUID = FRAME_OF_REFERENCE
    image.PatientName, image.PatientID = "Doe^John", "4711"
    image.PatientBirthDate, image.PatientSex, image.PatientAge = "19500607", "M", "075Y"
    image.StudyDate, image.StudyTime, image.StudyID = "20260304", "040000", "S1"
    image.AccessionNumber, image.ReferringPhysicianName = "A100", "House^Gregory"
    image.StudyDescription = "CT chest"
    image.SeriesNumber, image.SeriesDescription, image.Modality = 2, "axial", "CT"
    image.Manufacturer, image.BodyPartExamined = "Example", "CHEST"
    image.Rows, image.Columns = 64, 96
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    return image
