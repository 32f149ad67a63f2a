"""Class activation of every analysed slice as a Parametric Map.

Source: PS3.3 A.75, Parametric Map IOD.

The grid is the source's field of view with pixels merged: whatever box the network saw, all frames share one
geometry, and a map of hundreds of slices stays small. Built from highdicom's parts, but not by its
ParametricMap class: that one takes time and UIDs at random and a single source of several frames only whole.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from highdicom import VOILUTTransformation
from highdicom.pm import RealWorldValueMapping
from pydicom.dataset import Dataset

from lungnode import codes
from lungnode.heatmap import Activation, upsample
from worker.outputs.evidence import hierarchical_reference
from worker.outputs.frames import add_functional_groups
from worker.outputs.header import add_source_facts, header, with_file_meta
from worker.outputs.plane import Plane, plane_of
from worker.result import Context, SliceFinding

BUDGET_BYTES: Final = 2_000_000
FINEST: Final = 4  # a network's map has ten values across the lung: finer would be invented


def compose_map(
    slices: Sequence[SliceFinding], context: Context, sources: Mapping[str, Dataset], group: str = "pm"
) -> Dataset | None:
    """Return the map, or None when no slice says where it lies; slices unlike the first are left out."""
    placed = [(item, plane_of(sources[item.sop_instance_uid], item.frame)) for item in slices]
    known = [(item, plane) for item, plane in placed if plane is not None and plane.frame_of_reference_uid]
    if not known:
        return None
    alike = [(item, plane) for item, plane in known if _grid(plane) == _grid(known[0][1])]
    items = [item for item, _ in alike]
    factor = reduction(known[0][1].rows, known[0][1].columns, len(items))
    values = np.stack([reduced(item, plane, factor) for item, plane in alike])
    source = sources[items[0].sop_instance_uid]
    made = header(source, context, group, number=1, key=())
    _describe(made, context, source)
    _refer(made, items, sources)
    _add_pixels(made, values)
    add_functional_groups(made, items, [p.coarser(factor) for _, p in alike], codes.SPATIAL_RESAMPLING)
    _describe_values(made)
    return with_file_meta(made)


def _grid(plane: Plane) -> tuple[object, ...]:
    return (plane.rows, plane.columns, plane.spacing_mm, plane.orientation, plane.frame_of_reference_uid)


def reduction(rows: int, columns: int, frames: int) -> int:
    """Return the least factor, at least `FINEST`, at which all frames fit into the budget."""
    factor = FINEST
    while frames * -(-rows // factor) * -(-columns // factor) * 4 > BUDGET_BYTES:
        factor += 1
    return factor


def reduced(item: SliceFinding, plane: Plane, factor: int) -> Activation:
    """Return the mean activation of each `factor` x `factor` pixels; the padding counts as 0."""
    full = upsample(item.class_map, item.box, plane.rows, plane.columns)
    padded = np.pad(full, ((0, -plane.rows % factor), (0, -plane.columns % factor)))
    blocks = padded.reshape(padded.shape[0] // factor, factor, padded.shape[1] // factor, factor)
    mean: Activation = blocks.mean(axis=(1, 3)).astype(np.float32)
    return mean


def _describe(made: Dataset, context: Context, source: Dataset) -> None:
    """Say what the map is.

    Source: PS3.3 C.8.32.2 Parametric Map Image, C.7.4.1 Frame of Reference, C.7.6.14 Acquisition Context.
    """
    add_source_facts(made, source)
    made.FrameOfReferenceUID = source.FrameOfReferenceUID
    made.PositionReferenceIndicator = None
    made.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "QUANTITY"]
    made.ContentQualification = context.qualification
    made.ContentLabel = "CLASS_ACTIVATION"
    made.ContentDescription = "Class activation of COVID-19"
    made.ContentCreatorName = None
    made.AcquisitionContextSequence = []
    made.BurnedInAnnotation = "NO"
    made.RecognizableVisualFeatures = "NO"
    made.LossyImageCompression = made.get("LossyImageCompression") or "00"  # type 1 here


def _refer(made: Dataset, items: Sequence[SliceFinding], sources: Mapping[str, Dataset]) -> None:
    """Name all images the map was made of.

    Source: PS3.3 C.12.2, Common Instance Reference.
    """
    used = dict.fromkeys(item.sop_instance_uid for item in items)
    instances = [(sources[uid].SeriesInstanceUID, sources[uid].SOPClassUID, uid) for uid in used]
    made.ReferencedSeriesSequence = hierarchical_reference(made.StudyInstanceUID, instances)[
        0
    ].ReferencedSeriesSequence
    for series in made.ReferencedSeriesSequence:
        series.ReferencedInstanceSequence = series.ReferencedSOPSequence
        del series.ReferencedSOPSequence


def _add_pixels(made: Dataset, values: Activation) -> None:
    """Store the activations.

    Source: PS3.3 C.7.6.24, Floating Point Image Pixel.
    """
    made.SamplesPerPixel = 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.PixelPresentation = "MONOCHROME"
    made.PresentationLUTShape = "IDENTITY"
    made.Rows, made.Columns = values.shape[1:]
    made.BitsAllocated = 32
    made.FloatPixelData = values.astype("<f4").tobytes()


def _describe_values(made: Dataset) -> None:
    """Say what a stored value means, for all frames alike.

    Source: PS3.3 C.7.6.16.2.11 Real World Value Mapping, C.8.32.3.1 Parametric Map Frame Type.
    """
    shared = made.SharedFunctionalGroupsSequence[0]
    shared.RealWorldValueMappingSequence = [
        RealWorldValueMapping(
            lut_label="ACTIVATION",
            lut_explanation="Class activation of COVID-19",
            unit=codes.NO_UNITS,
            value_range=(0.0, 1.0),
            slope=1.0,
            intercept=0.0,
            quantity_definition=codes.CLASS_ACTIVATION,
        )
    ]
    shared.FrameVOILUTSequence = [VOILUTTransformation(window_center=0.5, window_width=1.0)]
    transformation = Dataset()
    transformation.RescaleIntercept = 0
    transformation.RescaleSlope = 1
    transformation.RescaleType = "US"
    shared.PixelValueTransformationSequence = [transformation]
    frame_type = Dataset()
    frame_type.FrameType = made.ImageType
    shared.ParametricMapFrameTypeSequence = [frame_type]
