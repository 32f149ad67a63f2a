"""The rejection note for results of ours that do not count any more.

Source: IHE RAD TF-2 4.66, Rejection Note Stored; PS3.3 A.35.4, Key Object Selection Document IOD; PS3.16,
TID 2010 Key Object Selection.
"""

from collections.abc import Sequence

from highdicom.ko import KeyObjectSelection
from pydicom.dataset import Dataset

from lungnode.rejection import Title
from worker.outputs.evidence import hierarchical_reference
from worker.outputs.header import header, with_file_meta
from worker.outputs.report import observer
from worker.outputs.source import UTF_8
from worker.result import Context


def compose_rejection(rejected: Sequence[Dataset], title: Title, context: Context, group: str) -> Dataset:
    """Return the note that rejects objects of ours, which says of the patient what they say.

    Args:
        rejected: Of one study, as they were sent, without pixels.
        title: Why.
        context: Of the analysis that made them, at the time of the rejection.
        group: Its output group.
    """
    made = header(rejected[0], context, group, number=1, key=())
    selection = KeyObjectSelection(
        document_title=title.code,
        referenced_objects=list(rejected),
        observer_device_context=observer(context),
    )
    made.update(selection[0])
    made.ReferencedPerformedProcedureStepSequence = []
    named = [(str(ds.SeriesInstanceUID), str(ds.SOPClassUID), str(ds.SOPInstanceUID)) for ds in rejected]
    made.CurrentRequestedProcedureEvidenceSequence = hierarchical_reference(context.study_instance_uid, named)
    made.SpecificCharacterSet = UTF_8
    return with_file_meta(made)
