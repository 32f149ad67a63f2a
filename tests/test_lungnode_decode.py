"""Stored values: every transfer syntax against another decoder, and damaged bytes against their reason."""

import random
import shutil
import subprocess
import warnings
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from lungnode.decode import Stored, stored_values
from lungnode.errors import UnusableError
from lungnode.pixels import hounsfield
from tests.ct_images import ENCODERS, LOSSY, Pixels, compressed, ct_image

RETIRED: Final = ("1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55")
# What a lossy encoder may do to a stored value at most; the image is a staircase from 0 to 3,750.
TOLERANCE: Final = {
    JPEGBaseline8Bit: 150,
    JPEGExtended12Bit: 40,
    JPEGLSNearLossless: 2,
    JPEG2000: 120,
    HTJ2K: 80,
}
LOSSLESS: Final = [syntax for syntax in (*ENCODERS, RLELossless) if syntax not in LOSSY]


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    """A disc with noise, 12 bits: any wrong byte order, sign or predictor would show."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-48:48, -64:64]
    disc = np.where(x**2 + y**2 < 40**2, 1100, 150) + rng.integers(0, 60, x.shape)
    disc[:2] = [[0], [4095]]
    return np.asarray(disc, np.uint16)


def read(path: Path) -> Stored:
    return stored_values(dcmread(path))


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda s: s.name)
def test_a_lossless_syntax_gives_back_every_value(syntax: UID, pixels: Pixels) -> None:
    assert np.array_equal(stored_values(compressed(pixels, syntax)), pixels)


@pytest.mark.parametrize("syntax", LOSSY, ids=lambda s: s.name)
def test_a_lossy_syntax_gives_back_nearly_every_value(syntax: UID) -> None:
    smooth = np.repeat(np.repeat(np.arange(0, 4000, 250, dtype=np.uint16).reshape(4, 4), 16, 0), 16, 1)

    ds = compressed(smooth, syntax)

    assert np.abs(stored_values(ds) * float(ds.RescaleSlope) - smooth).max() <= TOLERANCE[syntax]


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
    ids=lambda s: s.name,
)
def test_native_syntaxes_are_read_in_their_byte_order(syntax: UID, pixels: Pixels) -> None:
    ds, file = ct_image(pixels), BytesIO()
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = pixels.byteswap().tobytes()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(file, enforce_file_format=True, little_endian=syntax.is_little_endian)
    file.seek(0)

    assert np.array_equal(stored_values(dcmread(file)), pixels)


@pytest.mark.parametrize("frame", [1, 2, 3])
@pytest.mark.parametrize("syntax", [None, RLELossless, JPEGLosslessSV1, JPEG2000Lossless])
def test_each_frame_is_read_by_its_number(frame: int, syntax: UID | None, pixels: Pixels) -> None:
    frames = np.stack([pixels, pixels // 2, pixels // 3]).astype(np.uint16)
    ds = ct_image(frames) if syntax is None else compressed(frames, syntax)

    assert np.array_equal(stored_values(ds, frame), frames[frame - 1])


def test_bits_above_the_stored_ones_are_dropped() -> None:
    stored = np.full((64, 64), 0xF123, np.uint16)  # overlay bits, as old scanners wrote them

    assert (stored_values(ct_image(stored)) == 0x123).all()


def test_a_sign_in_the_twelfth_bit_is_extended() -> None:
    stored = np.full((64, 64), 0x0C18, np.uint16)

    assert (stored_values(ct_image(stored, PixelRepresentation=1)) == 0xC18 - 0x1000).all()


def test_signed_values_coded_as_unsigned_keep_their_sign() -> None:
    # PS3.5 8.2.4 asks for a signed codestream; some writers send two's complement as unsigned.
    values = np.full((64, 64), -2000, np.int16)
    ds = ct_image(values)
    ds.PixelData = encapsulate([ENCODERS[JPEG2000Lossless](values.view(np.uint16))])
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless

    assert (stored_values(ds) == -2000).all()


def test_real_slices_are_the_same_in_all_lossless_syntaxes(shared_data: Path) -> None:
    folder = shared_data / "dicom/syntaxes"
    lossless = [
        path
        for path in sorted(folder.glob("CTImage*"))
        if not path.name.endswith(("4.50.dcm", "4.51.dcm", "4.53.dcm", "4.55.dcm", "4.81.dcm", "4.91.dcm"))
    ]
    reference = dcmread(folder / "CTImage.dcm").pixel_array  # native: pydicom only reshapes it

    assert len(lossless) == 10
    assert all(np.array_equal(read(path), reference) for path in lossless)


def test_a_siemens_slice_is_the_same_in_seven_syntaxes(shared_data: Path) -> None:
    slices = sorted((shared_data / "dicom/syntaxes").glob("P001_0060_*"))
    reference = dcmread(shared_data / "dicom/syntaxes/P001_0060_explicit_le.dcm").pixel_array

    assert len(slices) == 7
    assert all(np.array_equal(read(path), reference) for path in slices)


@pytest.mark.parametrize(("ending", "largest"), [("4.50", 100), ("4.51", 20), ("4.81", 10), ("4.91", 20)])
def test_real_lossy_slices_differ_little_from_the_original(
    shared_data: Path, ending: str, largest: float
) -> None:
    folder = shared_data / "dicom/syntaxes"
    original = hounsfield(dcmread(folder / "CTImage.dcm"))
    lossy = hounsfield(dcmread(next(folder.glob(f"CTImage*{ending}.dcm"))))

    assert np.percentile(np.abs(lossy - original), 99) <= largest


@pytest.mark.parametrize(
    ("tool", "pattern"),
    [
        ("dcmdjpeg", "*SV1*4.70.dcm"),
        ("dcmdjpeg", "*4.57.dcm"),
        ("dcmdjpeg", "*4.51.dcm"),
        ("dcmdjpls", "*4.80.dcm"),
        ("dcmdjpls", "*4.81.dcm"),
        ("dcmdrle", "*RLE*"),
    ],
)
def test_dcmtk_decodes_the_same_values(shared_data: Path, tmp_path: Path, tool: str, pattern: str) -> None:
    if not shutil.which(tool):
        pytest.skip(f"DCMTK's {tool} is absent: apt install dcmtk")
    path = next((shared_data / "dicom/syntaxes").glob(pattern))
    subprocess.run([tool, str(path), str(tmp_path / "native.dcm")], check=True, capture_output=True)

    theirs = dcmread(tmp_path / "native.dcm").pixel_array

    # Two decoders of the lossy process may round a cosine transform differently, by one.
    assert np.abs(read(path) - theirs.astype(np.int32)).max() <= (1 if "4.51" in pattern else 0)


@pytest.mark.parametrize("uid", RETIRED)
def test_retired_syntaxes_are_refused_by_name(shared_data: Path, uid: str) -> None:
    path = next((shared_data / "dicom/syntaxes").glob(f"*{uid}.dcm"))

    with pytest.raises(UnusableError, match=f"{uid} .*is retired"):
        read(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Rows": 20000, "Columns": 20000}, "20000 x 20000"),
        ({"NumberOfFrames": 2_000_000}, "Number of Frames is 2000000"),
        ({"Rows": 0}, "Rows x Columns is 0 x 64"),
        ({"BitsAllocated": 12}, "Bits Allocated is 12"),
        ({"BitsStored": 16}, "Bits Stored 16 and High Bit 11"),
        ({"SamplesPerPixel": 3}, "Samples per Pixel"),
        ({"Rows": None}, "Rows is missing"),
        ({"Rows": 100}, "Frame 1 needs 12800 bytes of Pixel Data; 8192 are there"),
    ],
)
def test_unusable_attributes_are_named_before_pixels_are_touched(
    changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(UnusableError, match=reason):
        stored_values(ct_image(**changes))


def test_an_instance_without_pixels_is_refused() -> None:
    ds = ct_image()
    del ds.PixelData

    with pytest.raises(UnusableError, match="no Pixel Data"):
        stored_values(ds)


def test_an_image_without_a_transfer_syntax_is_refused() -> None:
    ds = ct_image()
    del ds.file_meta.TransferSyntaxUID

    with pytest.raises(UnusableError, match="Transfer Syntax UID"):
        stored_values(ds)


def test_a_frame_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UnusableError, match="Frame 2 was asked of an image that has 1"):
        stored_values(ct_image(), 2)


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless], ids=lambda s: s.name)
def test_a_codestream_larger_than_its_image_is_refused_before_decoding(syntax: UID, pixels: Pixels) -> None:
    ds = compressed(pixels, syntax)
    ds.Rows = 16

    with pytest.raises(UnusableError, match=r"has the shape \(96, 128\); Rows and Columns say \(16, 128\)"):
        stored_values(ds)


@pytest.mark.parametrize("syntax", [*ENCODERS, RLELossless], ids=lambda s: s.name)
def test_a_truncated_frame_is_refused_in_every_syntax(syntax: UID, pixels: Pixels) -> None:
    ds = compressed(pixels, syntax)
    whole = get_frame(ds.PixelData, 0, number_of_frames=1)
    ds.PixelData = encapsulate([whole[: len(whole) // 2]])

    with pytest.raises(UnusableError):
        stored_values(ds)


def test_damaged_files_raise_nothing_but_a_reason(shared_data: Path) -> None:
    paths = sorted((shared_data / "dicom/syntaxes").iterdir())
    outcomes = [_outcome(path, seed) for path in paths for seed in range(12)]

    assert len(outcomes) == 300
    assert all(outcomes), "an UnusableError without a whole sentence"


def _outcome(path: Path, seed: int) -> bool:
    """Damage a file; true when it is read, or refused with a sentence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of values it cannot read; that is the point here
        ds = _damaged(path, random.Random(f"{path.name} {seed}"))  # noqa: S311 - a seed, not a secret
        try:
            if ds is not None:
                hounsfield(ds)
        except UnusableError as error:
            return str(error).endswith(".")
        return True


def _damaged(path: Path, rng: random.Random) -> Dataset | None:
    content = bytearray(path.read_bytes())
    pixel_data = max(content.rfind(b"\xe0\x7f\x10\x00"), 0)
    kind = rng.randrange(3)
    if kind == 0:
        del content[rng.randrange(400, len(content)) :]
    for _ in range(rng.randint(1, 20) if kind else 0):
        where = rng.randrange(132, len(content)) if kind == 1 else pixel_data + rng.randrange(300)
        content[min(where, len(content) - 1)] = rng.randrange(256)
    try:
        return dcmread(BytesIO(bytes(content)))
    except Exception:  # noqa: BLE001 - a data set that cannot be parsed is the receiver's matter
        return None
