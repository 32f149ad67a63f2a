import io
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from lungnode.heatmap import overlay, upsample
from tests.findings import (
    FRAME_OF_REFERENCE,
    NAMES,
    Study,
    as_bytes,
    context,
    ct_study,
    enhanced_study,
    finding,
)
from worker.outputs.compose import compose
from worker.outputs.legend import annotate
from worker.outputs.wording import identification


def captures(study: Study, group: str = "sc", **changes: Any) -> list[Dataset]:
    """The summary page, then the heatmaps, as read back from their files."""
    made = compose(finding(study), context(**changes), study.sources, study.gray, {group})
    return [dcmread(io.BytesIO(as_bytes(one.dataset))) for one in made]


def test_a_heatmap_has_the_matrix_and_the_geometry_of_its_source() -> None:
    study = ct_study()

    heatmaps = captures(study)[1:]

    assert len(heatmaps) == 3
    for made in heatmaps:
        source = study.sources[made.SourceImageSequence[0].ReferencedSOPInstanceUID]
        for keyword in (
            "Rows",
            "Columns",
            "PixelSpacing",
            "ImagePositionPatient",
            "ImageOrientationPatient",
            "FrameOfReferenceUID",
            "SliceThickness",
        ):
            assert made[keyword].value == source[keyword].value, keyword
        assert made.SourceImageSequence[0].SpatialLocationsPreserved == "YES"


def test_a_frame_s_heatmap_has_the_geometry_of_its_frame() -> None:
    for made in captures(enhanced_study())[1:]:
        frame = made.SourceImageSequence[0].ReferencedFrameNumber
        assert list(made.ImagePositionPatient) == [-24.0, -30.5, -5.0 * (frame - 1)]
        assert list(made.PixelSpacing) == [0.75, 0.5]
        assert made.FrameOfReferenceUID == FRAME_OF_REFERENCE


def test_an_image_says_how_it_was_made_and_what_it_may_be_used_for() -> None:
    for made in captures(ct_study()):
        assert made.file_meta.TransferSyntaxUID == RLELossless
        assert (made.ConversionType, made.BurnedInAnnotation) == ("WSD", "NO")
        assert made.ContentQualification == "RESEARCH"
        assert (made.PhotometricInterpretation, made.SamplesPerPixel) == ("RGB", 3)
        assert made.ImageType[0] == "DERIVED"


def test_the_pixels_are_the_slice_with_its_activation_and_legend() -> None:
    study = ct_study()

    for made in captures(study)[1:]:
        uid = made.SourceImageSequence[0].ReferencedSOPInstanceUID
        item = next(one for one in study.slices if one.sop_instance_uid == uid)
        bare = overlay(study.gray(item), upsample(item.class_map, item.box, 64, 96))
        drawn = annotate(bare, made.ImageComments, "Lungnode: research use only, not for diagnostic use")
        assert np.array_equal(made.pixel_array, drawn)


def test_heatmaps_come_from_top_to_bottom() -> None:
    positions = [made.ImagePositionPatient[2] for made in captures(ct_study(12), heatmaps=6)[1:]]

    assert positions == sorted(positions, reverse=True)


def test_only_the_slices_that_are_shown_are_decoded() -> None:
    study = ct_study(12)

    captures(study, heatmaps=4)

    assert len(study.drawn) == 4


def test_the_summary_page_lies_nowhere_and_comes_first() -> None:
    page = captures(ct_study())[0]

    assert page.InstanceNumber == 1
    assert "ImagePositionPatient" not in page
    assert "FrameOfReferenceUID" not in page
    assert page.pixel_array.shape == (1024, 1024, 3)


def test_identification_is_drawn_only_when_it_was_set_and_then_declared() -> None:
    study = ct_study()

    without, drawn = captures(study)[0], captures(study, summary_identification=True)[0]

    assert (without.BurnedInAnnotation, drawn.BurnedInAnnotation) == ("NO", "YES")
    changed = np.argwhere((without.pixel_array != drawn.pixel_array).any(axis=2))
    assert changed[:, 0].max() < 110  # in the title alone


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Doe^John", "Doe, John   4711   19500607"),
        ("Buc^Jérôme", "Buc, Jerome   4711   19500607"),
        ("Yamada^Tarou=山田^太郎", "Yamada, Tarou   4711   19500607"),
        (NAMES["cyrillic"][1], "4711   19500607"),
        ("", "4711   19500607"),
    ],
)
def test_identification_is_drawn_as_far_as_the_font_has_letters(name: str, expected: str) -> None:
    patient = Dataset()
    patient.PatientName, patient.PatientID, patient.PatientBirthDate = name, "4711", "19500607"

    assert identification(patient) == expected


def test_a_lossy_source_stays_lossy() -> None:
    study = ct_study(
        LossyImageCompression="01", LossyImageCompressionRatio="10", LossyImageCompressionMethod="ISO_10918_1"
    )

    assert {made.LossyImageCompression for made in captures(study)} == {"01"}
    assert not any("LossyImageCompression" in made for made in captures(ct_study()))


def test_multi_frame_holds_the_same_pixels_and_places() -> None:
    study = ct_study()
    singles = captures(study)[1:]

    page, stack = captures(study, "sc-multi")

    assert page.NumberOfFrames == 1
    assert stack.NumberOfFrames == len(singles) == 3
    assert np.array_equal(stack.pixel_array, np.stack([made.pixel_array for made in singles]))
    for frame, made in zip(stack.PerFrameFunctionalGroupsSequence, singles, strict=True):
        assert frame.PlanePositionSequence[0].ImagePositionPatient == made.ImagePositionPatient
        reference = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert reference.ReferencedSOPInstanceUID == made.SourceImageSequence[0].ReferencedSOPInstanceUID


@pytest.mark.parametrize("size", [(16, 16), (64, 96), (1024, 768)])
def test_a_legend_is_drawn_on_any_size_and_leaves_the_middle_alone(size: tuple[int, int]) -> None:
    black = np.zeros((*size, 3), np.uint8)

    drawn = annotate(black, "title", "notice")

    assert drawn.shape == black.shape
    assert drawn.any()
    if size[0] > 64:
        assert not drawn[size[0] // 4 : size[0] * 3 // 4, : size[1] // 2].any()
