"""The network in 8-bit integers: calibrated with real slices, by NNCF.

Three parts stay in floating point. The head, which weighs features by how much they vary: what is nothing to
a feature of photographs is a finding here. The first convolution: errors made there reach everything behind
it; with it in 8 bits, logits were off by up to 5, without it by less than 1. And the sums of residual units,
else each unit rounds what the next one adds to.
More convolutions at the beginning can stay, too: the maps are large there, and errors travel far.
"""

import logging
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from math import ceil
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lungnode.errors import UnavailableError
from lungnode.runtime import Slices
from lungnode.runtime.convert import Converted, import_openvino
from lungnode.runtime.stem import round_stem

_CONVOLUTION: Final = "Convolution"
_SUM: Final = "Add"
_OUTPUTS: Final = 1  # of the network's two results: class maps come first
_PART: Final = 8  # slices looked at at once


def load_nncf() -> Any:
    """Import NNCF without its telemetry.

    Raises:
        UnavailableError: It is not installed.
    """
    import_openvino()  # which keeps the telemetry out
    try:
        import nncf  # noqa: PLC0415 - it takes seconds, and only trainings that have it need it
    except ImportError as error:
        raise UnavailableError(
            "8-bit integers need NNCF, which is not installed: pip install 'lungnode[trainer]'."
        ) from error
    nncf.set_log_level(logging.ERROR)
    return nncf


def quantise(converted: Converted, slices: Slices, kept: float = 0.0) -> Any:
    """Return a network in 8-bit integers, as an openvino.Model.

    Args:
        converted: The network in 32 bits; it stays as it is.
        slices: What it is calibrated with, shape (n, size, size).
        kept: Share of the backbone's convolutions, from the first one on, that stay in floating point; one
            does in any case.

    Raises:
        UnavailableError: NNCF is not installed.
    """
    nncf = load_nncf()
    inputs = slices[..., None].astype(np.float32)
    floating = nncf.IgnoredScope(
        names=[*_first_convolutions(converted, kept), *converted.head], types=[_SUM], validate=False
    )
    given = converted.model.clone()
    round_stem(import_openvino(), given)
    with redirect_stdout(StringIO()):  # bars, where a terminal has our own
        made = nncf.quantize(
            given,
            nncf.Dataset([inputs[row : row + 1] for row in range(len(inputs))]),
            # Symmetric: a padding of zeros is then exact.
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(inputs),
            fast_bias_correction=False,
            ignored_scope=floating,
        )
    return _level(made, converted.model, inputs)


def _first_convolutions(converted: Converted, share: float) -> list[str]:
    convolutions = [
        each.get_friendly_name()
        for each in converted.model.get_ordered_ops()
        if each.get_type_name() == _CONVOLUTION and each.get_friendly_name() not in converted.head
    ]
    return convolutions[: max(1, ceil(share * len(convolutions)))]


def _level(made: Any, reference: Any, inputs: NDArray[np.float32]) -> Any:
    """Shift a network's outputs so that their mean over the calibration is the reference's."""
    shift = (_outputs(reference, inputs) - _outputs(made, inputs)).mean(axis=0, keepdims=True)
    ov = import_openvino()
    results = made.get_results()
    output = results[_OUTPUTS].input_value(0)
    levelled = ov.opset13.add(output, ov.opset13.constant(shift.astype(np.float32)))
    shifted = [*results[:_OUTPUTS], ov.opset13.result(levelled)]
    return ov.Model(shifted, made.get_parameters(), "lungnode")


def _outputs(model: Any, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    ov = import_openvino()
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    parts: Sequence[NDArray[np.float32]] = [
        compiled([inputs[start : start + _PART]])[_OUTPUTS] for start in range(0, len(inputs), _PART)
    ]
    return np.concatenate(parts)
