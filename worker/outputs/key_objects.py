"""The Key Object Selection of an analysis: the slices that have a heatmap, for viewers that show key images.

Source: PS3.3 A.35.4 Key Object Selection Document IOD; PS3.16 TID 2010 Key Object Selection.
"""

from collections.abc import Mapping, Sequence

from highdicom.ko import KeyObjectSelection
from pydicom.dataset import Dataset

from lungnode import codes
from worker.outputs.evidence import UsedImage, hierarchical_reference, used_images
from worker.outputs.header import header, with_file_meta
from worker.outputs.report import observer, referenced_requests
from worker.outputs.wording import conclusion, notice
from worker.result import Context, SliceFinding, StudyFinding


def compose_key_objects(
    finding: StudyFinding,
    slices: Sequence[SliceFinding],
    context: Context,
    sources: Mapping[str, Dataset],
    group: str = "kos",
) -> Dataset:
    """Return the document that names `slices` of the finding, in their order."""
    images = used_images(slices, sources)
    made = header(images[0].source, context, group, number=1, key=())
    made.update(_content(finding, context, images))
    made.ReferencedPerformedProcedureStepSequence = []
    evidence = [(image.series_instance_uid, image.sop_class_uid, image.sop_instance_uid) for image in images]
    made.CurrentRequestedProcedureEvidenceSequence = hierarchical_reference(
        context.study_instance_uid, evidence
    )
    requests = referenced_requests(images[0].source, context)
    if requests:
        made.ReferencedRequestSequence = requests
    return with_file_meta(made)


def _content(finding: StudyFinding, context: Context, images: Sequence[UsedImage]) -> Dataset:
    said = [conclusion(finding), f"{notice(context)}." if notice(context) else ""]
    selection = KeyObjectSelection(
        document_title=codes.OF_INTEREST,
        referenced_objects=[image.source for image in images],
        observer_device_context=observer(context),
        description=" ".join(filter(None, said)),
    )
    for reference, image in zip(selection.get_references(), images, strict=True):
        if image.frames:
            reference.ReferencedSOPSequence[0].ReferencedFrameNumber = list(image.frames)
    tree: Dataset = selection[0]
    return tree
