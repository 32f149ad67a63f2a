"""The image library of a report: what the images have in common, then each of them.

Source: PS3.16 TID 1600 Image Library, 1601 Entry, 1602 and 1604 Descriptors. A descriptor that holds for all
images of a group stands once, at the group: a study of a thousand slices stays a small report.
"""

from collections.abc import Sequence

from highdicom.sr.enum import RelationshipTypeValues
from highdicom.sr.value_types import (
    CodeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    ImageContentItem,
    NumContentItem,
    UIDRefContentItem,
)
from pydicom.sr.coding import Code

from lungnode import codes
from worker.outputs.evidence import UsedImage
from worker.outputs.plane import Plane, plane_of

_CONTEXT = RelationshipTypeValues.HAS_ACQ_CONTEXT
_CONTAINS = RelationshipTypeValues.CONTAINS


def image_library(images: Sequence[UsedImage]) -> ContainerContentItem:
    """Return the library of `images`, grouped by their descriptors."""
    groups: dict[tuple[object, ...], list[UsedImage]] = {}
    planes: dict[tuple[object, ...], Plane | None] = {}
    for image in images:
        plane = plane_of(image.source, image.frames[0] if image.frames else None)
        key = (image.source.get("Modality"), *_descriptor_key(plane))
        groups.setdefault(key, []).append(image)
        planes.setdefault(key, plane)
    library = ContainerContentItem(name=codes.IMAGE_LIBRARY, relationship_type=_CONTAINS)
    library.ContentSequence = ContentSequence(
        [_group(planes[key], members) for key, members in groups.items()]
    )
    return library


def _descriptor_key(plane: Plane | None) -> tuple[object, ...]:
    if plane is None:
        return ()
    return (plane.frame_of_reference_uid, plane.rows, plane.columns, plane.spacing_mm, plane.thickness_mm)


def _group(plane: Plane | None, images: Sequence[UsedImage]) -> ContainerContentItem:
    group = ContainerContentItem(name=codes.IMAGE_LIBRARY_GROUP, relationship_type=_CONTAINS)
    modality = _modality(images[0])
    group.ContentSequence = ContentSequence([*modality, *_descriptors(plane), *map(_entry, images)])
    return group


def _modality(image: UsedImage) -> list[ContentItem]:
    if image.source.get("Modality") != codes.COMPUTED_TOMOGRAPHY.value:
        return []  # of a study that is not applicable
    item = CodeContentItem(name=codes.MODALITY, value=codes.COMPUTED_TOMOGRAPHY, relationship_type=_CONTEXT)
    return [item]


def _descriptors(plane: Plane | None) -> list[ContentItem]:
    items: list[ContentItem] = []
    if plane is None:
        return items
    if plane.frame_of_reference_uid:
        items.append(
            UIDRefContentItem(
                name=codes.FRAME_OF_REFERENCE, value=plane.frame_of_reference_uid, relationship_type=_CONTEXT
            )
        )
    items += [
        _number(codes.PIXEL_ROWS, plane.rows, codes.PIXELS),
        _number(codes.PIXEL_COLUMNS, plane.columns, codes.PIXELS),
        _number(codes.COLUMN_SPACING, plane.spacing_mm[1], codes.MILLIMETRE),
        _number(codes.ROW_SPACING, plane.spacing_mm[0], codes.MILLIMETRE),
    ]
    if plane.thickness_mm is not None:
        items.append(_number(codes.SLICE_THICKNESS, plane.thickness_mm, codes.MILLIMETRE))
    return items


def _number(name: Code, value: float, unit: Code) -> NumContentItem:
    return NumContentItem(name=name, value=value, unit=unit, relationship_type=_CONTEXT)


def _entry(image: UsedImage) -> ImageContentItem:
    return ImageContentItem(
        name=codes.SOURCE,
        referenced_sop_class_uid=image.sop_class_uid,
        referenced_sop_instance_uid=image.sop_instance_uid,
        referenced_frame_numbers=list(image.frames) or None,
        relationship_type=_CONTAINS,
    )
