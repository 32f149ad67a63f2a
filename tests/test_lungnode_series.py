"""Headers, geometry and series choice: each rule by a study that differs in one thing, then real ones."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, SecondaryCaptureImageStorage

from lungnode.errors import UnusableError
from lungnode.headers import SliceHeader, slice_headers
from lungnode.phantom import phantom_study
from lungnode.series import choose, geometry, labelled_chest
from tests.ct_images import ct_image, enhanced, legacy_converted


def header(number: int, /, **changes: object) -> SliceHeader:
    """One slice of a chest series, 2 mm apart, number 0 on top."""
    one = SliceHeader(
        path=Path(f"{number}.dcm"),
        sop_class_uid=CTImageStorage,
        sop_instance_uid=f"1.2.{number}",
        study_instance_uid="1",
        series_instance_uid="1.1",
        modality="CT",
        image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
        body_part="CHEST",
        kernel="B40f",
        instance_number=number + 1,
        acquisition_number=1,
        rows=512,
        columns=512,
        spacing_mm=(0.75, 0.75),
        thickness_mm=2.0,
        orientation=(1, 0, 0, 0, 1, 0),
        position=(-190, -190, -2.0 * number),
    )
    return replace(one, **changes)  # type: ignore[arg-type]  # a field's own type is each test's matter


def stack(count: int = 20, /, **changes: object) -> list[SliceHeader]:
    return [header(number, **changes) for number in range(count)]


def at(*heights: float) -> list[SliceHeader]:
    return [header(n, position=(0.0, 0.0, z)) for n, z in enumerate(heights)]


def numbers(slices: tuple[SliceHeader, ...]) -> list[int | None]:
    return [one.instance_number for one in slices]


# Geometry


def test_slices_are_sorted_from_head_to_foot_whatever_their_numbers() -> None:
    shuffled = [header(n, position=(0.0, 0.0, z)) for n, z in enumerate((-10.0, 0.0, -6.0, -2.0, -8.0, -4.0))]

    assert [one.position[2] for one in geometry(shuffled).slices if one.position] == [0, -2, -4, -6, -8, -10]


@pytest.mark.parametrize("orientation", [(-1, 0, 0, 0, -1, 0), (1, 0, 0, 0, -1, 0), (-1, 0, 0, 0, 1, 0)])
def test_a_patient_who_lies_otherwise_is_still_sorted_from_the_head(orientation: tuple[int, ...]) -> None:
    found = geometry(stack(5, orientation=orientation))

    assert numbers(found.slices) == [1, 2, 3, 4, 5]
    assert found.spacing_mm == pytest.approx(2.0)


def test_a_whole_stack_has_no_gaps() -> None:
    found = geometry(stack(20))

    assert (found.spacing_mm, found.gaps, found.irregular, found.note) == (2.0, 0, False, "no gaps")
    assert found.extent_mm == 38.0


def test_every_missing_slice_is_counted() -> None:
    found = geometry([one for one in stack(20) if one.instance_number not in (5, 9, 10)])

    assert (found.gaps, found.irregular, found.note) == (3, False, "3 gaps")


def test_a_step_that_is_no_multiple_is_irregular() -> None:
    found = geometry(at(0, -2, -4, -6, -8.8, -10.8, -12.8))

    assert (found.gaps, found.irregular, found.note) == (0, True, "no gaps, irregular spacing")


def test_rounding_of_positions_is_no_irregularity() -> None:
    assert geometry(at(0, -0.62, -1.25, -1.88, -2.5, -3.12)).note == "no gaps"


def test_two_slices_at_one_position_are_one_and_the_lower_number_wins() -> None:
    twice = header(20, position=header(7).position)

    found = geometry([twice, *stack(20)])

    assert len(found.slices) == 20
    assert found.note == "no gaps, 1 duplicate left out"
    assert "instance 21 (1.2.20) lies where instance 8 (1.2.7) does" in found.duplicates[0]


def test_a_tilted_gantry_is_noticed_and_spacing_is_along_the_normal() -> None:
    tilted = stack(10, orientation=(1, 0, 0, 0, 0.970296, -0.241922))

    found = geometry(tilted)

    assert found.tilt_degrees == pytest.approx(14, abs=0.1)
    assert found.spacing_mm == pytest.approx(2 * 0.970296, abs=1e-4)
    assert found.note == "no gaps, gantry tilt 14°"


def test_slices_at_one_position_are_no_volume() -> None:
    assert geometry(at(5, 5, 5)).note == "not a volume: 3 slices lie at one position"


def test_slices_without_position_keep_the_order_of_their_numbers() -> None:
    found = geometry([header(2, position=None), header(0), header(1)])

    assert numbers(found.slices) == [1, 2, 3]
    assert found.note == "not a volume: 1 of 3 slices have no position"


def test_one_slice_is_one_slice() -> None:
    assert geometry([header(0)]).note == "one slice"


@pytest.mark.parametrize(
    ("folder", "note"),
    [
        ("gantrytilting-001", "no gaps, gantry tilt 14°"),
        ("notavolume-001", "not a volume: 4 slices lie at one position"),
        ("sliceincrement-001", "1 gap"),
        ("sliceincrement-002", "1 gap, gantry tilt 16°"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")  # their age is written as 0Y
def test_real_edge_cases_get_the_right_note(shared_data: Path, folder: str, note: str) -> None:
    assert geometry(read(shared_data / "dicom/edge-cases" / folder)).note == note


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("gantrytilting-001", "has 4 slices (no gaps, gantry tilt 14°); at least 10 are needed."),
        ("notavolume-001", "is not a volume: 4 slices lie at one position."),
        ("sliceincrement-001", "has 4 slices (1 gap); at least 10 are needed."),
        ("sliceincrement-002", "has 4 slices (1 gap, gantry tilt 16°); at least 10 are needed."),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")  # their age is written as 0Y
def test_real_edge_cases_are_refused_with_the_reason(shared_data: Path, folder: str, reason: str) -> None:
    choice = choose(read(shared_data / "dicom/edge-cases" / folder))

    assert choice.series_instance_uid is None
    assert choice.reasons[-1].endswith(reason)


def read(folder: Path) -> list[SliceHeader]:
    return [
        one
        for path in sorted(folder.iterdir())
        for one in slice_headers(dcmread(path, stop_before_pixels=True), path)
    ]


@pytest.mark.filterwarnings("ignore:Invalid value for VR DS:UserWarning")  # that is the point here
@pytest.mark.parametrize("position", [["nan", "0", "0"], ["0", "0", "inf"]])
def test_a_position_that_is_no_number_is_missing(position: list[str]) -> None:
    assert slice_headers(ct_image(ImagePositionPatient=position), Path("x.dcm"))[0].position is None


@pytest.mark.parametrize("orientation", [(0, 0, 0, 0, 0, 0), (3, 0, 0, 0, 3, 0)])
def test_an_orientation_that_is_no_pair_of_cosines_breaks_nothing(orientation: tuple[int, ...]) -> None:
    assert geometry(stack(3, orientation=orientation)).spacing_mm in (None, 2.0)


# Choice


def test_the_only_chest_series_is_chosen() -> None:
    choice = choose(stack())

    assert choice.series_instance_uid == "1.1"
    assert numbers(choice.slices) == list(range(1, 21))
    assert choice.labelled_chest
    assert choice.reasons == (
        "Series 1.1 is the only one: 20 axial slices over 38 mm, 2 mm, kernel B40f, labelled chest, no gaps.",
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"modality": "MR"}, "20 of 20 images left out: no CT image."),
        ({"sop_class_uid": SecondaryCaptureImageStorage}, "20 of 20 images left out: no CT image."),
        ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "a localizer"),
        ({"image_type": ("DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MIP")}, "projection"),
        ({"image_type": ("DERIVED", "SECONDARY", "MPR")}, "reformatted"),
        ({"orientation": (1, 0, 0, 0, 0, -1)}, "not axial"),
        ({"orientation": (0, 1, 0, 0, 0, -1)}, "not axial"),
        ({"rows": 64}, "smaller than 128 x 128"),
    ],
)
def test_what_cannot_be_axial_chest_ct_is_left_out_with_the_reason(
    changes: dict[str, object], reason: str
) -> None:
    choice = choose(stack(**changes))

    assert choice.series_instance_uid is None
    assert len(choice.reasons) == 1
    assert reason in choice.reasons[0]


def test_several_causes_are_summed_up() -> None:
    choice = choose([*stack(modality="MR"), *stack(9)])

    assert len(choice.reasons) == 3
    assert choice.reasons[-1] == "No series holds axial CT slices that could be a chest."


def test_an_empty_study_has_no_chest() -> None:
    assert choose([]).reasons == ("No series holds axial CT slices that could be a chest.",)


def test_a_localizer_in_the_same_series_is_left_out_alone() -> None:
    scout = header(99, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"), orientation=(0, 1, 0, 0, 0, -1))

    assert len(choose([scout, *stack()]).slices) == 20


def test_too_few_slices_are_refused_unless_asked_for() -> None:
    assert "has 9 slices (no gaps); at least 10 are needed" in choose(stack(9)).reasons[0]
    assert len(choose(stack(1), minimum=1).slices) == 1


def test_slices_at_one_position_are_refused_even_when_few_are_enough() -> None:
    choice = choose(at(5, 5, 5), minimum=1)

    assert choice.series_instance_uid is None
    assert "is not a volume: 3 slices lie at one position" in choice.reasons[0]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"body_part": "CHEST"}, {"body_part": "ABDOMEN"}),
        ({"body_part": "CHEST"}, {"body_part": ""}),
        ({"image_type": ("ORIGINAL", "PRIMARY", "AXIAL")}, {"image_type": ("DERIVED", "SECONDARY", "AXIAL")}),
        ({"thickness_mm": 2.0}, {"thickness_mm": 7.0}),
        ({"thickness_mm": 5.0}, {"thickness_mm": None}),
        ({"kernel": "B60f"}, {"kernel": "B30f"}),
        ({"kernel": "LUNG"}, {"kernel": "STANDARD"}),
    ],
)
def test_the_better_of_two_series_is_chosen(better: dict[str, object], worse: dict[str, object]) -> None:
    for uids in (("1.1", "1.2"), ("1.2", "1.1")):
        good, bad = stack(series_instance_uid=uids[0], **better), stack(series_instance_uid=uids[1], **worse)

        choice = choose([*bad, *good])

        assert choice.series_instance_uid == uids[0]
        assert [candidate.series_instance_uid for candidate in choice.ranked] == list(uids)


def test_the_whole_chest_beats_a_part_of_it_with_thinner_slices() -> None:
    part = [header(n, series_instance_uid="1.0", thickness_mm=1.0) for n in range(12)]
    whole = stack(40, thickness_mm=5.0)

    assert choose([*part, *whole]).series_instance_uid == "1.1"


def test_two_acquisitions_over_each_other_are_not_mixed() -> None:
    second = [header(n + 20, acquisition_number=2, position=(0.0, 0.0, -2.0 * n - 1.0)) for n in range(18)]

    choice = choose([*second, *stack()])

    assert {one.acquisition_number for one in choice.slices} == {1}
    assert choice.geometry is not None
    assert choice.geometry.note == "no gaps"


def test_acquisitions_that_follow_each_other_are_one_stack() -> None:
    step_and_shoot = [header(n, acquisition_number=n // 2) for n in range(20)]

    assert len(choose(step_and_shoot).slices) == 20


def test_two_kernels_in_one_series_are_not_mixed() -> None:
    sharp = [header(n + 20, kernel="B70f", position=header(n).position) for n in range(20)]

    assert {one.kernel for one in choose([*stack(), *sharp]).slices} == {"B70f"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"body_part": "CHEST"}, True),
        ({"body_part": "THORAX"}, True),
        ({"body_part": "LUNG"}, True),
        ({"body_part": "HEAD", "descriptions": ("Chest",)}, False),
        ({"body_part": "", "descriptions": ("", "HELICAL CHEST")}, True),
        ({"body_part": "", "descriptions": ("ThorRoutine",)}, True),
        ({"body_part": "", "descriptions": ("ОГК",)}, True),
        ({"body_part": "", "descriptions": ("胸部CT",)}, True),
        ({"body_part": "", "descriptions": ("Tórax sin contraste",)}, True),
        ({"body_part": "", "descriptions": ("Abdomen",)}, False),
    ],
)
def test_headers_that_name_the_chest_are_understood(changes: dict[str, object], expected: bool) -> None:
    assert labelled_chest(header(0, **changes)) is expected


def test_the_choice_does_not_depend_on_the_order_of_arrival() -> None:
    headers = [*stack(), *stack(20, series_instance_uid="1.2"), *stack(15, series_instance_uid="1.3")]

    assert choose(headers) == choose(headers[::-1])


@pytest.mark.parametrize(("study", "count"), [("covid-P001", 148), ("normal-001", 154)])
def test_real_studies_are_chosen_whole(shared_data: Path, study: str, count: int) -> None:
    choice = choose(read(shared_data / "dicom" / study))

    assert len(choice.slices) == count
    assert choice.labelled_chest
    assert choice.geometry is not None
    assert choice.geometry.spacing_mm == pytest.approx(2.0)
    assert choice.geometry.note == "no gaps"


# Headers


def test_enhanced_ct_gives_the_same_headers_frame_by_frame() -> None:
    single = [
        ct_image(
            ImagePositionPatient=[-20, -30, -2.5 * n],
            InstanceNumber=n + 1,
            AcquisitionNumber=1,
            ConvolutionKernel="B60f",
            BodyPartExamined="CHEST",
            FrameOfReferenceUID="1.9",
        )
        for n in range(3)
    ]
    path = Path("x.dcm")

    multi = slice_headers(enhanced(single), path)

    assert [one.frame for one in multi] == [1, 2, 3]
    for ours, theirs in zip(multi, (slice_headers(ds, path)[0] for ds in single), strict=True):
        same = {
            "sop_class_uid": ours.sop_class_uid,
            "sop_instance_uid": ours.sop_instance_uid,
            "series_instance_uid": ours.series_instance_uid,
            "instance_number": ours.instance_number,
            "frame": ours.frame,
        }
        assert ours == replace(theirs, **same)  # type: ignore[arg-type]  # the identity alone differs


def test_legacy_converted_ct_gives_the_same_geometry(tmp_path: Path) -> None:
    single = [dcmread(path) for path in phantom_study(tmp_path, 12, size=64).paths]
    ours = [one for ds in single for one in slice_headers(ds, tmp_path)]

    multi = slice_headers(legacy_converted(single[::-1]), tmp_path)

    found, expected = geometry(multi), geometry(ours)
    assert found.positions_mm == pytest.approx(expected.positions_mm)
    assert found.slices[0].spacing_mm == pytest.approx(expected.slices[0].spacing_mm)
    assert found.slices[0].thickness_mm == pytest.approx(expected.slices[0].thickness_mm)
    assert found.slices[0].body_part == "CHEST"


@pytest.mark.parametrize(
    "keyword", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID"]
)
def test_a_missing_uid_is_named(keyword: str) -> None:
    with pytest.raises(UnusableError, match=f"{keyword} is missing"):
        slice_headers(ct_image(**{keyword: None}), Path("x.dcm"))


def test_a_bomb_of_frames_is_refused() -> None:
    with pytest.raises(UnusableError, match="Number of Frames is 100000000"):
        slice_headers(ct_image(NumberOfFrames=100_000_000), Path("x.dcm"))


@pytest.mark.parametrize(
    ("keyword", "value"), [("ImagePositionPatient", [1, 2]), ("PixelSpacing", None), ("InstanceNumber", None)]
)
def test_a_missing_number_is_none(keyword: str, value: object) -> None:
    one = slice_headers(ct_image(**{keyword: value}), Path("x.dcm"))[0]

    assert None in (one.position, one.spacing_mm, one.instance_number)
