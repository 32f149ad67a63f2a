"""From stored values to the network's input, against the Standard's formulas and by hand."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from lungnode.errors import UnusableError
from lungnode.gray import Box, Gray
from lungnode.phantom import phantom_study
from lungnode.pixels import AIR_HU, crop_box, hounsfield, lung_gray, lung_window, model_input
from tests.ct_images import Pixels, ct_image, enhanced, legacy_converted


def stored(value: int) -> Pixels:
    return np.full((64, 64), value, np.uint16)


def test_slope_and_intercept_give_hounsfield_units() -> None:
    ds = ct_image(stored(500), RescaleSlope=2, RescaleIntercept=-1000)

    assert (hounsfield(ds) == 0).all()
    assert hounsfield(ds).dtype == np.float32


def test_negative_stored_values_stay_negative() -> None:
    ds = ct_image(np.full((64, 64), -700, np.int16), RescaleIntercept=0)

    assert (hounsfield(ds) == -700).all()


def test_monochrome1_has_the_same_hounsfield_units() -> None:
    # PS3.3 C.7.6.3.1.2: the interpretation is applied when shown, after the VOI transformation.
    ds = ct_image(stored(1024), PhotometricInterpretation="MONOCHROME1")

    assert (hounsfield(ds) == 0).all()


def test_padding_becomes_air() -> None:
    pixels = np.full((64, 64), 1000, np.int16)
    pixels[0] = 3000

    values = hounsfield(ct_image(pixels, PixelPaddingValue=3000))

    assert (values[0] == AIR_HU).all()
    assert (values[1:] == -24).all()


@pytest.mark.parametrize(("value", "limit"), [(2900, 3100), (3100, 2900)])
def test_a_range_of_padding_becomes_air(value: int, limit: int) -> None:
    pixels = np.full((64, 64), 1000, np.int16)
    pixels[0], pixels[1] = 2900, 3100

    values = hounsfield(ct_image(pixels, PixelPaddingValue=value, PixelPaddingRangeLimit=limit))

    assert (values[:2] == AIR_HU).all()
    assert (values[2:] == -24).all()


def test_padding_written_with_the_wrong_sign_is_still_padding() -> None:
    pixels = np.full((64, 64), 1000, np.uint16)
    pixels[0] = 63536  # -2000 in 16 bits

    values = hounsfield(ct_image(pixels, BitsStored=16, HighBit=15, PixelPaddingValue=63536 - 65536))

    assert (values[0] == AIR_HU).all()


def test_undeclared_padding_below_air_becomes_air() -> None:
    assert (hounsfield(ct_image(np.full((64, 64), -2000, np.int16))) == AIR_HU).all()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Modality": "MR"}, "Modality .* is 'MR'"),
        ({"PhotometricInterpretation": "RGB"}, "Photometric Interpretation .* is 'RGB'"),
        ({"RescaleType": "US"}, "Rescale Type .* is 'US'"),
        ({"RescaleType": "Z_EFF"}, "Rescale Type .* is 'Z_EFF'"),
        ({"RescaleSlope": None}, "Slope and Intercept are None and '-1024"),
        ({"RescaleIntercept": None}, "Intercept are '1.*' and None"),
        ({"RescaleSlope": 0}, "Slope 0"),
    ],
)
def test_what_has_no_hounsfield_units_is_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(UnusableError, match=reason):
        hounsfield(ct_image(**changes))


def test_the_window_follows_the_standard() -> None:
    # Source: PS3.3 C.11.2.1.2.1, pseudo-code of LINEAR, with ymin 0 and ymax 255.
    center, width = -600.0, 1500.0
    values = np.arange(-1500, 400, dtype=np.float32)[None]
    expected = [
        0.0
        if x <= center - 0.5 - (width - 1) / 2
        else 255.0
        if x > center - 0.5 + (width - 1) / 2
        else ((x - (center - 0.5)) / (width - 1) + 0.5) * 255
        for x in values[0].astype(float)
    ]

    assert np.abs(lung_window(values)[0] - np.array(expected)).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("file", ["signed", "unsigned", "padded"])
def test_gray_that_is_looked_up_equals_gray_that_is_computed(file: str) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(-2000 if file == "signed" else 0, 3000, (40, 30)).astype(np.int16)
    ds = ct_image(pixels if file == "signed" else pixels.astype(np.uint16))
    if file == "padded":
        ds.PixelPaddingValue = int(pixels[3, 4])

    assert np.array_equal(lung_gray(ds), lung_window(hounsfield(ds)))


def test_more_values_than_pixels_are_computed_one_by_one() -> None:
    ds = ct_image(np.array([[0, 60000], [100, 1500]], np.uint16))

    assert np.array_equal(lung_gray(ds), lung_window(hounsfield(ds)))


def test_the_paper_cuts_fifty_of_512_rows_at_both_edges() -> None:
    assert crop_box(np.zeros((512, 512), np.uint8), "paper") == Box(50, 462, 0, 512)
    assert crop_box(np.zeros((256, 300), np.uint8), "paper") == Box(25, 231, 0, 300)


def body(rows: int = 512, columns: int = 512) -> Gray:
    """A bright body on dark air, with two dark lungs: rows 150 to 350, columns 110 to 400 of 512."""
    y, x = np.mgrid[:rows, :columns] * 512 / rows
    gray = np.full((rows, columns), 60, np.uint8)
    gray[((x - 256) / 220) ** 2 + ((y - 256) / 150) ** 2 < 1] = 230
    for centre in (180, 330):
        gray[((x - centre) / 70) ** 2 + ((y - 250) / 100) ** 2 < 1] = 90
    return gray


def corners(box: Box) -> tuple[int, int, int, int]:
    return box.top, box.bottom, box.left, box.right


def test_the_lung_crop_is_the_lungs_with_a_margin() -> None:
    # The lungs reach from row 150 to 350 and column 110 to 400; the margin is 4 % of 290.
    assert corners(crop_box(body(), "lung")) == pytest.approx((138, 362, 98, 412), abs=4)


def test_the_lung_crop_does_not_depend_on_the_matrix() -> None:
    large, small = corners(crop_box(body(1024, 1024), "lung")), corners(crop_box(body(256, 256), "lung"))

    assert [value / 4 for value in large] == pytest.approx(small, abs=3)


def test_a_table_below_the_body_is_not_lung() -> None:
    gray = body()
    gray[430:450], gray[450:470], gray[470:480] = 200, 75, 200  # shell, foam, shell, from edge to edge

    assert corners(crop_box(gray, "lung")) == pytest.approx((138, 362, 98, 412), abs=4)


def test_a_figure_cut_through_the_lungs_is_kept_whole() -> None:
    figure = body()[170:330, 130:380]  # no air around the body; the lungs touch three edges

    box = crop_box(figure, "lung")

    assert (box.left, box.right) == (0, figure.shape[1])
    assert box.bottom - box.top > 0.9 * figure.shape[0]


@pytest.mark.parametrize("gray", [np.zeros((512, 512), np.uint8), np.full((512, 512), 200, np.uint8)])
def test_a_picture_without_lungs_takes_the_papers_crop(gray: Gray) -> None:
    assert crop_box(gray, "lung") == Box(50, 462, 0, 512)


def test_one_lung_alone_takes_the_papers_crop() -> None:
    gray = body()
    gray[:, 256:][gray[:, 256:] == 90] = 230

    assert crop_box(gray, "lung") == Box(50, 462, 0, 512)


def test_real_slices_are_cropped_to_their_lungs(shared_data: Path) -> None:
    # Marked by eye on the slice: chest wall to chest wall, sternum to the back of the lungs.
    gray = lung_window(hounsfield(dcmread(shared_data / "dicom/syntaxes/P001_0060_explicit_le.dcm")))

    assert corners(crop_box(gray, "lung")) == pytest.approx((105, 375, 60, 445), abs=15)


def test_the_models_input_is_square_and_keeps_the_mean() -> None:
    gray = body()

    made = model_input(gray, Box(50, 462, 0, 512))

    assert made.shape == (299, 299)
    assert made.dtype == np.uint8
    assert float(made.mean()) == pytest.approx(float(gray[50:462].mean()), abs=0.5)


def test_the_models_input_does_not_alias() -> None:
    stripes = np.zeros((1024, 1024), np.uint8)
    stripes[:, ::2] = 255  # finer than any pixel of the input

    made = model_input(stripes, Box(0, 1024, 0, 1024))

    assert np.ptp(made[:, 5:-5]) <= 16


def test_a_small_picture_is_enlarged() -> None:
    assert model_input(body(64, 64), Box(10, 50, 5, 60), size=128).shape == (128, 128)


def series(count: int) -> list[Dataset]:
    rng = np.random.default_rng(0)
    return [
        ct_image(
            rng.integers(0, 2000, (64, 64), np.uint16),
            InstanceNumber=index + 1,
            ImagePositionPatient=[0, 0, -2.0 * index],
            RescaleIntercept=-1024 - index,
        )
        for index in range(count)
    ]


def test_enhanced_ct_gives_the_same_values_frame_by_frame() -> None:
    single = series(4)
    multi = enhanced(single)

    for number, ds in enumerate(single, start=1):
        assert np.array_equal(hounsfield(multi, number), hounsfield(ds))


def test_a_frame_in_other_units_is_refused() -> None:
    multi = enhanced(series(2))
    multi.PerFrameFunctionalGroupsSequence[1].PixelValueTransformationSequence[0].RescaleType = "MGML"

    assert hounsfield(multi, 1).shape == (64, 64)
    with pytest.raises(UnusableError, match="MGML"):
        hounsfield(multi, 2)


def test_a_frame_without_rescale_is_refused() -> None:
    multi = enhanced(series(2))
    del multi.PerFrameFunctionalGroupsSequence[1].PixelValueTransformationSequence

    with pytest.raises(UnusableError, match="Slope and Intercept are None and None"):
        hounsfield(multi, 2)


def test_legacy_converted_enhanced_ct_gives_the_same_values(tmp_path: Path) -> None:
    single = [dcmread(path) for path in phantom_study(tmp_path, 4, size=64).paths]
    multi = legacy_converted(single)

    for number, ds in enumerate(single, start=1):
        assert np.array_equal(hounsfield(multi, number), hounsfield(ds))
