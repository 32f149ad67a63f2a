"""Lung coverage against marks made by eye, phantoms whose truth is known, and bodies that are no chest."""

from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from pydicom import dcmread

from lungnode.gray import Gray, read_image
from lungnode.lungs import Coverage, Volume, coverage, lung_mask
from lungnode.phantom import PhantomStudy, phantom_study
from lungnode.pixels import hounsfield, lung_window
from lungnode.series import labelled_chest, slice_headers

# Written down on contact sheets (lung window, sorted top to bottom, 400 pixels a slice) before any coverage
# code was run on these studies: first and last slice on which lung is seen, partial volume included.
EYE_MARKS: Final = {
    "covid-P001": (9, 147),  # left apex just appears on 9; the study ends (147) inside both recesses
    "normal-001": (8, 141),  # left apex just appears on 8; a last sliver of the left recess on 141
}
PIXEL_MM: Final = {"covid-P001": 0.748, "normal-001": 0.635}
SLICE_MM: Final = 2.0
TISSUE_GRAY, LUNG_GRAY, AIR_GRAY = 230, 90, 59


@cache
def volume(folder: Path) -> Volume:
    """All slices of a study, top to bottom; decoded once for all tests."""
    slices = sorted(
        (dcmread(path) for path in folder.iterdir()), key=lambda ds: -float(ds.ImagePositionPatient[2])
    )
    return np.stack([lung_window(hounsfield(ds)) for ds in slices])


def of(path: Path, **labels: str) -> Coverage:
    """Coverage of one file, with some headers changed."""
    ds = dcmread(path)
    for keyword, value in labels.items():
        setattr(ds, keyword, value)
    gray = lung_window(hounsfield(ds))
    return coverage(
        gray[None], float(ds.PixelSpacing[1]), labelled_chest=labelled_chest(slice_headers(ds, path)[0])
    )


@pytest.mark.parametrize("study", EYE_MARKS)
def test_the_ends_of_the_lung_agree_with_marks_made_by_eye(shared_data: Path, study: str) -> None:
    found = coverage(volume(shared_data / "dicom" / study), PIXEL_MM[study], SLICE_MM)

    assert found.is_chest
    assert (found.first, found.last) == pytest.approx(EYE_MARKS[study], abs=3)
    assert found.volume_ml is not None
    assert 2000 < found.volume_ml < 8000  # an adult's total lung capacity
    assert found.ends_above
    assert found.ends_below == (study == "normal-001")


@pytest.mark.parametrize("study", EYE_MARKS)
def test_a_coarser_matrix_finds_the_same_ends(shared_data: Path, study: str) -> None:
    small = volume(shared_data / "dicom" / study)[:, ::2, ::2]

    found = coverage(small, PIXEL_MM[study] * 2, SLICE_MM)

    assert (found.first, found.last) == pytest.approx(EYE_MARKS[study], abs=3)


@pytest.mark.parametrize("step", [3, 5])
@pytest.mark.parametrize("study", EYE_MARKS)
def test_thick_slices_find_the_same_ends(shared_data: Path, study: str, step: int) -> None:
    found = coverage(volume(shared_data / "dicom" / study)[::step], PIXEL_MM[study], SLICE_MM * step)

    assert (found.first, found.last) == pytest.approx([mark / step for mark in EYE_MARKS[study]], abs=1.5)


@pytest.mark.parametrize("study", EYE_MARKS)
def test_every_slice_well_inside_the_lung_is_a_chest_by_itself(shared_data: Path, study: str) -> None:
    first, last = EYE_MARKS[study]
    inside = volume(shared_data / "dicom" / study)[first + 15 : last - 30 : 6]

    assert len(inside) > 12
    assert all(coverage(gray[None], PIXEL_MM[study]).is_chest for gray in inside)


def test_the_neck_above_a_chest_is_none(shared_data: Path) -> None:
    found = coverage(volume(shared_data / "dicom/covid-P001")[:9], PIXEL_MM["covid-P001"], SLICE_MM)

    assert not found.is_chest
    assert found.reason == "No lung is seen on any slice."


def test_the_belly_below_a_chest_is_none(shared_data: Path) -> None:
    found = coverage(volume(shared_data / "dicom/normal-001")[142:], PIXEL_MM["normal-001"], SLICE_MM)

    assert not found.is_chest


def test_a_belly_with_the_base_of_the_lung_is_none(shared_data: Path) -> None:
    whole = volume(shared_data / "dicom/normal-001")
    belly = np.concatenate([whole[125:], np.repeat(whole[150:], 20, axis=0)])

    found = coverage(belly, PIXEL_MM["normal-001"], SLICE_MM)

    assert not found.is_chest


@pytest.mark.parametrize("name", [f"head-{number}.dcm" for number in range(1, 11)])
@pytest.mark.parametrize("labels", [{}, {"BodyPartExamined": "CHEST", "SeriesDescription": "Chest"}])
def test_a_head_is_no_chest_whatever_its_label(shared_data: Path, name: str, labels: dict[str, str]) -> None:
    found = of(shared_data / "dicom/head-ct" / name, **labels)

    assert not found.is_chest
    assert found.reason.endswith(".")


def test_heads_relabelled_as_one_chest_series_are_no_chest(shared_data: Path) -> None:
    paths = [shared_data / f"dicom/head-ct/head-{number}.dcm" for number in range(2, 11)]
    heads = np.stack([lung_window(hounsfield(dcmread(path))) for path in paths])

    assert not coverage(heads, 0.45, labelled_chest=True).is_chest


def test_a_brain_is_no_chest(shared_data: Path) -> None:
    path = shared_data / "dicom/syntaxes/CT2_J2KR"

    assert not of(path).is_chest
    assert not of(path, BodyPartExamined="CHEST").is_chest


def test_chest_slices_without_a_body_part_are_chest(shared_data: Path) -> None:
    assert of(shared_data / "dicom/syntaxes/CT1_J2KR").is_chest


def test_a_slice_through_the_shoulders_of_a_chest_series_is_taken_as_its_header_says(
    shared_data: Path,
) -> None:
    # HELICAL CHEST, at the height of the shoulders: a trachea, no lung.
    path = shared_data / "dicom/syntaxes/CTImage.dcm"

    assert of(path).is_chest
    assert of(path).first is None
    assert not of(path, BodyPartExamined="NECK").is_chest


@pytest.mark.parametrize("folder", ["gantrytilting-001", "sliceincrement-001", "sliceincrement-002"])
@pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")  # their age is written as 0Y
def test_pictures_of_noise_are_no_chest(shared_data: Path, folder: str) -> None:
    found = coverage(volume(shared_data / "dicom/edge-cases" / folder), 0.4, 5, labelled_chest=True)

    assert not found.is_chest


@pytest.fixture(scope="module", params=[(0, 40), (1, 60), (2, 25)])
def phantom(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    seed, slices = request.param
    folder = tmp_path_factory.mktemp("phantom")
    return phantom_study(folder, slices, seed % 2 == 0, seed, size=256)


def test_a_phantoms_lung_is_found_within_one_slice(phantom: PhantomStudy) -> None:
    grays = np.stack([lung_window(hounsfield(dcmread(path))) for path in phantom.paths])

    found = coverage(grays, 390 / 256, 310 / len(grays))

    assert found.is_chest
    assert (found.first, found.last) == pytest.approx((phantom.first, phantom.last), abs=1)


def drawn(*lungs: tuple[int, int, int], gray: int = LUNG_GRAY) -> Gray:
    """A body with round dark areas: row, column and radius in a matrix of 256."""
    y, x = np.mgrid[:256, :256]
    slice_ = np.full((256, 256), AIR_GRAY, np.uint8)
    slice_[((x - 128) / 110) ** 2 + ((y - 128) / 80) ** 2 < 1] = TISSUE_GRAY
    for row, column, radius in lungs:
        slice_[(x - column) ** 2 + (y - row) ** 2 < radius**2] = gray
    return slice_


def test_gas_in_the_bowel_is_not_lung() -> None:
    assert not coverage(drawn((120, 90, 30), gray=AIR_GRAY)[None], 1.5).is_chest


def test_a_trachea_is_not_lung() -> None:
    assert coverage(drawn((110, 128, 6), gray=AIR_GRAY)[None], 1.5).first is None


def test_bowel_beside_the_lung_does_not_extend_it() -> None:
    chest, belly = drawn((128, 80, 40), (128, 180, 40)), drawn((65, 128, 9), gray=75)

    found = coverage(np.stack([chest] * 10 + [belly] * 10), 1.5, 5)

    assert (found.first, found.last) == (0, 9)


def test_one_small_lung_beside_a_large_one_still_counts() -> None:
    mask = lung_mask(drawn((128, 80, 45), (128, 190, 20)))

    assert mask[128, 80]
    assert mask[128, 190]


def test_shares_are_given_for_every_slice() -> None:
    found = coverage(np.stack([drawn(), drawn((128, 80, 40), (128, 180, 40))]), 1.5, 5)

    assert found.area_fraction[0] == 0
    assert found.area_fraction[1] == pytest.approx(2 * np.pi * 40**2 / 256**2, rel=0.02)
    assert found.volume_ml == pytest.approx(2 * np.pi * 60**2 * 5 / 1000, rel=0.02)


def test_a_thousand_thin_slices_are_covered_like_a_hundred() -> None:
    empty, chest = drawn(), drawn((128, 80, 40), (128, 180, 40))

    found = coverage(np.stack([empty] * 100 + [chest] * 800 + [empty] * 100), 1.5, 0.3)

    assert (found.first, found.last) == pytest.approx((100, 899), abs=2)
    assert len(found.area_fraction) == 1000
    assert found.volume_ml == pytest.approx(2 * np.pi * 60**2 * 800 * 0.3 / 1000, rel=0.02)


def test_lungs_that_a_targeted_field_of_view_cuts_are_lung() -> None:
    cut = drawn((128, 80, 45), (128, 180, 45))[90:170, 50:215]

    found = coverage(np.stack([cut] * 12), 1.5, 5)

    assert found.is_chest
    assert found.area_fraction[0] > 0.4


def test_other_peoples_scanners_show_chests_too(shared_data: Path) -> None:
    # 500 scans of many makers, one slice each, windowed from -1000 to 400 HU. By eye, 37 lie in the belly and
    # show a sliver of lung at most. Three with emphysema were refused at first and gave the rule for vessels.
    paths = sorted((shared_data / "luna16").glob("*.jpg"))[::4]
    grays = [read_image(path.read_bytes()).astype(np.float32) for path in paths]

    chests = sum(coverage(lung_window(gray * np.float32(1400 / 255) - 1000)[None]).is_chest for gray in grays)

    assert chests >= 0.9 * len(paths)
