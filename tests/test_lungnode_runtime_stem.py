"""The first convolution in gray, beside the one it stands for."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lungnode.runtime.convert import import_openvino
from lungnode.runtime.stem import lighten_stem, round_stem

MEAN = np.array([0.5, 0.45, 0.4], np.float32)
SLOPES = np.array([0.017, 0.0175, 0.0174], np.float32)
EXACT = {"INFERENCE_PRECISION_HINT": "f32"}


def network(size: int, kernel: int, stride: int) -> Any:
    """Draw a network of one convolution over three normalised copies of gray."""
    op = import_openvino().opset13
    gray = op.parameter([-1, size, size, 1], np.float32, name="gray")
    planes = op.concat([op.transpose(gray, [0, 3, 1, 2])] * 3, axis=1)
    normalised = op.multiply(planes, SLOPES[None, :, None, None]) - MEAN[None, :, None, None] / 0.225
    filters = np.random.default_rng(0).normal(size=(5, 3, kernel, kernel)).astype(np.float32)
    pads = [kernel // 2] * 2
    found = op.convolution(normalised, filters, [stride] * 2, pads, pads, [1, 1])
    return import_openvino().Model([found], [gray], "stem")


def run(model: Any, slices: NDArray[np.float32]) -> NDArray[np.float32]:
    said: NDArray[np.float32] = import_openvino().Core().compile_model(model, "CPU", EXACT)([slices])[0]
    return said


def noise(size: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).integers(0, 256, (2, size, size, 1)).astype(np.float32)


@pytest.mark.parametrize("size", [64, 75])
@pytest.mark.parametrize(("kernel", "stride"), [(7, 2), (3, 2), (3, 1), (4, 2)])
def test_gray_gives_what_its_three_copies_gave(size: int, kernel: int, stride: int) -> None:
    model = network(size, kernel, stride)
    expected = run(model, noise(size))

    lighten_stem(import_openvino(), model)

    assert not [each for each in model.get_ops() if each.get_type_name() == "Concat"]
    np.testing.assert_allclose(run(model, noise(size)), expected, atol=1e-4 * np.abs(expected).max())


def test_rounded_filters_keep_their_sums() -> None:
    model = network(64, 7, 1)
    lighten_stem(import_openvino(), model)
    before = filters(model)

    round_stem(import_openvino(), model)

    after = filters(model)
    assert not (after.view(np.uint32) & 0xFFFF).any()  # bfloat16 is the upper half
    np.testing.assert_allclose(after, before, rtol=2**-8, atol=np.abs(before).max() / 2**8)
    assert np.abs((after - before).sum(axis=(1, 2, 3))).max() < 0.1 * np.abs(after - before).max()


def filters(model: Any) -> NDArray[np.float32]:
    convolution = next(each for each in model.get_ordered_ops() if each.get_type_name() == "Convolution")
    found: NDArray[np.float32] = convolution.input_value(1).get_node().get_data()
    return found.copy()
