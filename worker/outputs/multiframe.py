"""Heatmaps as frames of one Secondary Capture, for peers that prefer one object.

Source: PS3.3 A.8.5, Multi-frame True Color Secondary Capture Image IOD.
"""

from collections.abc import Sequence

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from lungnode import codes
from worker.outputs.capture import Picture, capture_header, with_pixels
from worker.outputs.frames import add_functional_groups
from worker.outputs.plane import Plane, plane_of
from worker.result import Context


def compose_captures(pictures: Sequence[Picture], context: Context, group: str, number: int) -> Dataset:
    """Return all heatmaps of one matrix size as one image; where one has no place, none is given."""
    made = capture_header(pictures[0].source, context, group, number, ("heatmaps", number))
    made.BurnedInAnnotation = "NO"
    made.DerivationDescription = "Class activation maps over the lung window"
    made.NumberOfFrames = len(pictures)
    planes = [plane_of(picture.source, picture.item.frame) for picture in pictures]
    known = [plane for plane in planes if plane is not None and plane.frame_of_reference_uid]
    if len(known) == len(pictures) and _aligned(known):
        add_functional_groups(made, [p.item for p in pictures], known, codes.SPATIAL_RESAMPLING)
        made.FrameOfReferenceUID = known[0].frame_of_reference_uid
        made.PositionReferenceIndicator = None
        pointer = "PerFrameFunctionalGroupsSequence"
    else:
        made.PageNumberVector = list(range(1, len(pictures) + 1))
        pointer = "PageNumberVector"
    if len(pictures) > 1:  # C.8.6.3: a single frame has no increment
        made.FrameIncrementPointer = tag_for_keyword(pointer)
    return with_pixels(made, [picture.pixels for picture in pictures])


def _aligned(planes: Sequence[Plane]) -> bool:
    return len({(plane.spacing_mm, plane.orientation, plane.frame_of_reference_uid) for plane in planes}) == 1
