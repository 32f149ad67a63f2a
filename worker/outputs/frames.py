"""Functional groups: what each frame of a multi-frame image shows, where it lies, what it was made from.

Source: PS3.3 C.7.6.16, Multi-frame Functional Groups Module; C.7.6.17, Multi-frame Dimension Module.
"""

from collections.abc import Sequence

from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence
from highdicom.sr import CodedConcept
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from lungnode import codes
from lungnode.identifiers import derive_uid
from worker.outputs.evidence import instance_reference
from worker.outputs.plane import Plane
from worker.result import SliceFinding


def add_functional_groups(
    made: Dataset, items: Sequence[SliceFinding], planes: Sequence[Plane], derivation: Code
) -> None:
    """Describe the frames of `made`: one for each of `items`, all of one orientation and spacing."""
    made.NumberOfFrames = len(items)
    shared = Dataset()
    shared.PixelMeasuresSequence = PixelMeasuresSequence(
        pixel_spacing=list(planes[0].spacing_mm),
        slice_thickness=planes[0].thickness_mm if planes[0].thickness_mm is not None else 0.0,
    )
    shared.PlaneOrientationSequence = PlaneOrientationSequence("PATIENT", list(planes[0].orientation))
    made.SharedFunctionalGroupsSequence = [shared]
    made.PerFrameFunctionalGroupsSequence = [
        _frame(number, item, plane, derivation)
        for number, (item, plane) in enumerate(zip(items, planes, strict=True), start=1)
    ]
    _index_by_position(made)


def _frame(number: int, item: SliceFinding, plane: Plane, derivation: Code) -> Dataset:
    frame = Dataset()
    frame.FrameContentSequence = [Dataset()]
    frame.FrameContentSequence[0].StackID = "1"
    frame.FrameContentSequence[0].InStackPositionNumber = number
    frame.FrameContentSequence[0].DimensionIndexValues = [1, number]
    frame.PlanePositionSequence = PlanePositionSequence("PATIENT", list(plane.position_mm))
    derived = Dataset()
    derived.DerivationCodeSequence = [CodedConcept.from_code(derivation)]
    derived.SourceImageSequence = [source_image(item)]
    frame.DerivationImageSequence = [derived]
    return frame


def source_image(item: SliceFinding) -> Dataset:
    """Return the reference to the slice that an image of ours shows at the same place.

    Source: PS3.3 C.7.6.1.1.4 Source Image Sequence; PS3.16 CID 7202.
    """
    reference = instance_reference(item.sop_class_uid, item.sop_instance_uid)
    if item.frame is not None:
        reference.ReferencedFrameNumber = item.frame
    reference.SpatialLocationsPreserved = "YES"
    reference.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.SOURCE_IMAGE)]
    return reference


def _index_by_position(made: Dataset) -> None:
    organization = derive_uid("dimensions", made.SOPInstanceUID)
    made.DimensionOrganizationSequence = [Dataset()]
    made.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    made.DimensionIndexSequence = [
        _dimension(organization, keyword) for keyword in ("StackID", "InStackPositionNumber")
    ]


def _dimension(organization: str, keyword: str) -> Dataset:
    index = Dataset()
    index.DimensionOrganizationUID = organization
    index.DimensionIndexPointer = tag_for_keyword(keyword)
    index.FunctionalGroupPointer = tag_for_keyword("FrameContentSequence")
    index.DimensionDescriptionLabel = keyword
    return index
