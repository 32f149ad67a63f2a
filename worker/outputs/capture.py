"""Heatmaps as Secondary Capture: one image a slice, with a summary page in front.

Source: PS3.3 A.8.1, Secondary Capture Image IOD.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import MultiFrameTrueColorSecondaryCaptureImageStorage, RLELossless
from pydicom.valuerep import DSfloat

from lungnode.heatmap import Color
from worker.outputs.frames import source_image
from worker.outputs.header import add_source_facts, header, with_file_meta
from worker.outputs.plane import Plane, plane_of
from worker.outputs.rle import encode_rle
from worker.outputs.wording import slice_title
from worker.result import Context, SliceFinding

# Source: PS3.3 C.8.6.1, Conversion Type: Workstation.
CONVERSION_TYPE: Final = "WSD"
SUMMARY_NUMBER: Final = 1  # the summary page is the first image


@dataclass(frozen=True)
class Picture:
    """A drawn slice."""

    item: SliceFinding
    source: Dataset
    pixels: Color  # as sent, with its legend
    bare: Color  # without it


def compose_capture(picture: Picture, context: Context, group: str, number: int) -> Dataset:
    """Return one slice's heatmap, in the matrix and geometry of its source."""
    item = picture.item
    made = capture_header(picture.source, context, group, number, (item.sop_instance_uid, item.frame or 0))
    made.BurnedInAnnotation = "NO"  # what is drawn on it identifies nobody
    made.SourceImageSequence = [source_image(item)]
    made.DerivationDescription = "Class activation map over the lung window"
    made.ImageComments = slice_title(item, picture.source)
    plane = plane_of(picture.source, item.frame)
    if plane:
        _place(made, plane)
    return with_pixels(made, [picture.pixels])


def compose_summary(page: Color, source: Dataset, context: Context, group: str) -> Dataset:
    """Return the summary page; it lies nowhere in the patient."""
    made = capture_header(source, context, group, SUMMARY_NUMBER, ("summary",))
    made.BurnedInAnnotation = "YES" if context.summary_identification else "NO"
    made.DerivationDescription = "Summary of the analysis"
    if made.SOPClassUID == MultiFrameTrueColorSecondaryCaptureImageStorage:
        made.NumberOfFrames = 1
    return with_pixels(made, [page])


def capture_header(
    source: Dataset, context: Context, group: str, number: int, key: tuple[str | int, ...]
) -> Dataset:
    """Return what every image we draw says of itself."""
    made = header(source, context, group, number=number, key=key)
    add_source_facts(made, source)
    made.ConversionType = CONVERSION_TYPE
    made.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    made.ContentQualification = context.qualification
    made.DateOfSecondaryCapture = made.ContentDate
    made.TimeOfSecondaryCapture = made.ContentTime
    made.PatientOrientation = None
    return made


def _place(made: Dataset, plane: Plane) -> None:
    """Say how large the pixels are and, where the source names a frame of reference, where the slice lies.

    Source: PS3.3 C.7.6.2 Image Plane Module, C.7.4.1 Frame of Reference Module.
    """
    made.PixelSpacing = decimals(plane.spacing_mm)
    if not plane.frame_of_reference_uid:
        return
    made.ImagePositionPatient = decimals(plane.position_mm)
    made.ImageOrientationPatient = decimals(plane.orientation)
    made.SliceThickness = None if plane.thickness_mm is None else decimals([plane.thickness_mm])[0]
    made.FrameOfReferenceUID = plane.frame_of_reference_uid
    made.PositionReferenceIndicator = None


def decimals(values: Sequence[float]) -> list[DSfloat]:
    """Return the values as decimal strings of at most 16 characters."""
    return [DSfloat(value, auto_format=True) for value in values]


def with_pixels(made: Dataset, frames: list[Color]) -> Dataset:
    """Give an image its frames, RLE-compressed, and its File Meta Information; return it.

    Source: PS3.3 C.7.6.3, Image Pixel Module.
    """
    made.Rows, made.Columns, made.SamplesPerPixel = frames[0].shape
    made.PhotometricInterpretation = "RGB"
    made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit = 7
    made.PixelRepresentation = 0
    made.PixelData = encapsulate([encode_rle(frame) for frame in frames])
    made["PixelData"].VR = "OB"
    return with_file_meta(made, RLELossless)
