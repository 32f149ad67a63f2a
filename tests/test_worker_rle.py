import io
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from tests.findings import as_bytes, context, ct_study, finding
from tests.validators import decompressed
from worker.outputs.capture import with_pixels
from worker.outputs.compose import compose
from worker.outputs.rle import encode_rle, rle_bound


@pytest.mark.parametrize("shape", [(3, 129), (64, 96), (512, 512), (127, 255)])
def test_pydicom_decodes_what_was_encoded(shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(3)
    image = generator.integers(0, 256, (*shape, 3)).astype(np.uint8)
    image[: shape[0] // 2] = 7  # runs and noise

    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    with_pixels(made, [image])

    assert len(encode_rle(image)) % 2 == 0
    assert np.array_equal(dcmread(io.BytesIO(as_bytes(made))).pixel_array, image)


@pytest.mark.parametrize("shape", [(3, 129), (64, 96), (127, 255)])
def test_no_image_takes_more_than_the_bound(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (*shape, 3)).astype(np.uint8)

    assert len(encode_rle(noise)) <= rle_bound(*shape)


def test_dcmtk_decodes_the_same_pixels_as_pydicom(tmp_path: Path) -> None:
    study = ct_study()
    made = compose(finding(study), context(), study.sources, study.gray, {"sc"})

    for number, one in enumerate(made):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(as_bytes(one.dataset))
        native = dcmread(decompressed(path, tmp_path / f"{number}-native.dcm"))
        assert np.array_equal(native.pixel_array, dcmread(io.BytesIO(as_bytes(one.dataset))).pixel_array)
