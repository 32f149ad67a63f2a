"""The first convolution of a converted network, made for gray; it says the same in a third of the time.

The network was made for colours: gray is copied into three channels, each is normalised, and the convolution
adds up what its filters find in each. All of that is linear in gray. So one channel and the sum of the
filters do, and what the normalisation adds is what the convolution says of a slice of one gray, a constant.
That gray is the one which the normalisation turns into about 0: sums stay small, and so do their roundings.

Processors multiply channels in pairs and fours: a convolution that takes every second place becomes one of
four channels (even and odd rows and columns of the slice) with filters of half the side.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_WHITE: Final = 255.0
_CONVOLUTION: Final = "Convolution"
_MANTISSA: Final = 256.0  # steps of a mantissa in bfloat16, from 0 to 1
_PLANE: Final = (0, 3, 1, 2)  # gray (n, rows, columns, 1) to (n, 1, rows, columns)
_SIDES: Final = (2, 3)  # the axes rows and columns then


def round_stem(ov: Any, model: Any) -> None:
    """Round the first convolution's filters to bfloat16 so that each keeps its sum.

    Gray hardly changes over large areas: there, errors of a filter's weights do not cancel but add up. Logits
    are off by a tenth of what they are with each weight rounded by itself.

    Args:
        ov: The module openvino.
        model: An openvino.Model of gray, changed here.
    """
    first = _first_convolution(model)
    filters = first.input_value(1).get_node().get_data()
    flat = filters.reshape(len(filters), -1)
    order = np.argsort(-np.abs(flat), axis=1)  # the smallest are the finest: what is left ends there
    left = np.zeros(len(flat), np.float32)
    rounded = np.empty_like(flat)
    for at in order.T:
        wanted = flat[np.arange(len(flat)), at] + left
        rounded[np.arange(len(flat)), at] = _bfloat16(wanted)
        left = wanted - _bfloat16(wanted)
    first.input(1).replace_source_output(ov.opset13.constant(rounded.reshape(filters.shape)).output(0))


def _bfloat16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to the nearest number of 8 significant bits."""
    mantissas, exponents = np.frexp(values)
    return np.ldexp(np.round(mantissas * _MANTISSA) / _MANTISSA, exponents).astype(np.float32)


def _first_convolution(model: Any) -> Any:
    return next(each for each in model.get_ordered_ops() if each.get_type_name() == _CONVOLUTION)


def lighten_stem(ov: Any, model: Any) -> None:
    """Let the first convolution take gray.

    Args:
        ov: The module openvino.
        model: An openvino.Model of gray (n, size, size, 1), changed here.
    """
    first = _first_convolution(model)
    gray = model.get_parameters()[0]
    seen = ov.Model([*first.input_values(), first.output(0)], [gray], "stem")
    look = ov.Core().compile_model(seen, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    one = np.ones([1, *(side.get_length() for side in list(gray.partial_shape)[1:])], np.float32)
    middle = np.s_[0, :, one.shape[1] // 2, one.shape[2] // 2]
    black, white = (look([shade * one])[0][middle] for shade in (0, _WHITE))
    slopes = (white - black) / _WHITE
    level = np.round(-(black / slopes).mean())
    _, filters, constant = look([level * one]).values()
    op = ov.opset13
    plane = op.subtract(op.transpose(gray, _PLANE), np.float32(level))
    summed = np.einsum("c,ocrs->ors", slopes, filters)[:, None].astype(np.float32)
    convolve = _by_halves if first.get_attributes()["strides"] == [2, 2] else _directly
    found = convolve(op, plane, summed, first)
    found.set_friendly_name(first.get_friendly_name())
    margin = max(filters.shape[2:])  # what a filter sees beyond the edge ends there
    first.output(0).replace(op.add(found, _of_border(op, constant, margin)).output(0))


def _directly(op: Any, plane: Any, filters: NDArray[np.float32], first: Any) -> Any:
    by = first.get_attributes()
    return op.convolution(plane, filters, by["strides"], by["pads_begin"], by["pads_end"], by["dilations"])


def _by_halves(op: Any, plane: Any, filters: NDArray[np.float32], first: Any) -> Any:
    """Convolve at every second place: output i sees the padded places from 2 i on."""
    before = first.get_attributes()["pads_begin"]
    given, made = (
        [side.get_length() for side in list(each.get_output_partial_shape(0))[2:]] for each in (plane, first)
    )
    odd = [side % 2 for side in filters.shape[2:]]
    even = np.pad(filters, [(0, 0), (0, 0), *((0, each) for each in odd)])
    needed = [2 * (out - 1) + side for out, side in zip(made, even.shape[2:], strict=True)]
    after = [whole - pad - side for whole, pad, side in zip(needed, before, given, strict=True)]
    padded = op.pad(plane, [0, 0, *before], [0, 0, *after], "constant", np.float32(0))
    halves = op.space_to_depth(padded, "blocks_first", 2)
    split = np.concatenate([even[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)], axis=1)
    return op.convolution(halves, np.ascontiguousarray(split), [1, 1], [0, 0], [0, 0], [1, 1])


def _of_border(op: Any, constant: NDArray[np.float32], margin: int) -> Any:
    """Return a map that is the same everywhere but at its border, stored as little more than that."""
    found = []
    for axis in _SIDES:
        places = np.arange(constant.shape[axis])
        places[margin : len(places) - margin] = margin
        kept, back = np.unique(places, return_inverse=True)
        constant = constant.take(kept, axis)
        found.append(back)
    made = op.constant(constant)
    for axis, back in zip(_SIDES, found, strict=True):
        made = op.gather(made, back, axis)
    return made
