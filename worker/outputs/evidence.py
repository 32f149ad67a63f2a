"""Which images an analysis used, and how our objects refer to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from worker.result import SliceFinding


@dataclass(frozen=True)
class UsedImage:
    """One SOP instance that was used, with its frames where it has several."""

    source: Dataset
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    frames: tuple[int, ...] = ()  # 1-based; empty for a single-frame image


def used_images(slices: Sequence[SliceFinding], sources: Mapping[str, Dataset]) -> list[UsedImage]:
    """Return the images of slices, or all of the sources when nothing was analysed.

    The order is that of the slices, else that of the UIDs: never that in which the images came.
    """
    if not slices:
        images = [uid for uid in sorted(sources) if "Rows" in sources[uid]]
        return [_used(uid, sources[uid], ()) for uid in images or sorted(sources)]
    frames: dict[str, list[int]] = {}
    for item in slices:
        of_image = frames.setdefault(item.sop_instance_uid, [])
        if item.frame is not None:
            of_image.append(item.frame)
    return [_used(uid, sources[uid], tuple(sorted(of_image))) for uid, of_image in frames.items()]


def _used(uid: str, source: Dataset, frames: tuple[int, ...]) -> UsedImage:
    return UsedImage(source, str(source.SOPClassUID), uid, str(source.SeriesInstanceUID), frames)


def instance_reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """Return an item of a Referenced SOP Sequence.

    Source: PS3.3 Table 10-11, SOP Instance Reference Macro.
    """
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item


def hierarchical_reference(
    study_instance_uid: str, instances: Sequence[tuple[str, str, str]]
) -> list[Dataset]:
    """Return one item that names all `instances` (series, SOP class, SOP instance UID) of a study.

    Source: PS3.3 Table C.17-3, Hierarchical SOP Instance Reference Macro.
    """
    series: dict[str, list[Dataset]] = {}
    for series_uid, sop_class_uid, sop_instance_uid in instances:
        series.setdefault(series_uid, []).append(instance_reference(sop_class_uid, sop_instance_uid))
    study = Dataset()
    study.StudyInstanceUID = study_instance_uid
    study.ReferencedSeriesSequence = []
    for series_uid, references in series.items():
        item = Dataset()
        item.SeriesInstanceUID = series_uid
        item.ReferencedSOPSequence = references
        study.ReferencedSeriesSequence.append(item)
    return [study]
