"""The head in another order of computation: the same outputs for a fraction of the work and the memory.

`head.add_head` resizes the features of every stage to the size of the first one and joins them: 40 MB a
slice, of which only averages are used. Resizing and averaging are linear, so here each stage is averaged as
it is, by two small matrices: one over the rows, one over the columns. The mean of the squares of resized
features follows from those of features and of their differences. Layers that have weights are those of
`head`, under the same names.

Channels stand before rows and columns: that is what OpenVINO computes in, so nothing is moved there.
"""

from typing import Any, Final

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from lungnode.network.head import (
    CELL,
    HEAD,
    SPREAD,
    STRIDES,
    TINY,
    add_head,
    find_lesions,
    mean_of_highest,
)
from lungnode.recipe import Network

Matrix = NDArray[np.float32]  # shape (made, given): how much of each given place a place is made of
PLANES: Final = "planes{}"  # names of the layers where the head begins, by the number of the map
_AXES: Final = (2, 3)  # rows and columns of (n, channels, rows, columns)


def add_lean_head(maps: list[Any], findings: int, network: Network) -> list[Any]:
    """Return what `head.add_head` returns; it is that one where the map of every place is shown."""
    planes = [layers.Permute((3, 1, 2), name=PLANES.format(at))(x) for at, x in enumerate(maps)]
    if not network.lesion_cells:
        return add_head([_channels_last(x) for x in planes], findings, network)
    side = CELL // STRIDES[network.stages[0] - 1]
    size = planes[0].shape[2:]
    resized = [[_resize(*pair) for pair in zip(x.shape[2:], size, strict=True)] for x in planes]
    averaged = [_average(x, by, side) for x, by in zip(planes, resized, strict=True)]
    means = _join([_mean(cells, size, side) for cells in averaged])
    logits = layers.Flatten()(layers.Conv2D(findings, 1, name=HEAD)(means))
    if network.spread:
        squares = _join([_mean_square(x, by) for x, by in zip(planes, resized, strict=True)])
        spread = ops.sqrt(ops.maximum(squares - ops.square(means), 0.0) + TINY)
        weighed = layers.Conv2D(findings, 1, use_bias=False, name=SPREAD)(spread)
        logits = layers.Add()([logits, layers.Flatten()(weighed)])
    lesion_maps = find_lesions(_join(averaged), findings, network)
    highest = mean_of_highest(lesion_maps, network.lesion_cells)
    return [lesion_maps, layers.Concatenate(name="evidence")([layers.Add()([logits, highest]), highest])]


def split_head(network: Any) -> tuple[Any, Any]:
    """Split a network with a lean head into two models that share its variables: backbone, and head."""
    names = [layer.name for layer in network.layers]
    starts = [PLANES.format(at) for at in range(len(names)) if PLANES.format(at) in names]
    planes = [network.get_layer(name).output for name in starts]
    return keras.Model(network.input, planes, name="trunk"), keras.Model(planes, network.outputs, name="rest")


def _channels_last(planes: Any) -> Any:
    return layers.Permute((2, 3, 1))(planes)


def _join(parts: list[Any]) -> Any:
    """Join maps of one size along the channels; (n, rows, columns, channels)."""
    return _channels_last(parts[0] if len(parts) == 1 else layers.Concatenate(axis=1)(parts))


def _average(planes: Any, resized: list[Matrix], side: int) -> Any:
    """Resize and average over cells of `side` x `side`, (n, channels, cells, cells)."""
    if all(len(each) == each.shape[1] for each in resized):  # nothing is resized
        pooled = layers.AveragePooling2D(side, padding="same")(_channels_last(planes))
        return layers.Permute((3, 1, 2))(pooled)
    by_rows, by_columns = (_pool(len(each), side) @ each for each in resized)
    return ops.matmul(by_rows, ops.matmul(planes, by_columns.T))


def _mean(cells: Any, size: tuple[int, int], side: int) -> Any:
    """Return the mean over the map from that of its cells, (n, channels, 1, 1)."""
    by_rows, by_columns = ((_pool(each, side) > 0).mean(axis=1, dtype=np.float32) for each in size)
    return ops.sum(cells * np.outer(by_rows, by_columns), axis=_AXES, keepdims=True)


def _mean_square(planes: Any, resized: list[Matrix]) -> Any:
    """Return the mean of the squares of a resized map, (n, channels, 1, 1).

    Between p and q, at a share a of the way, ((1 - a) p + a q)^2 = (1 - a) p^2 + a q^2 - a (1 - a) (p - q)^2.
    """
    (rows, between_rows), (columns, between_columns) = (_square_weights(each) for each in resized)
    total = _weighted_sum(planes, rows, columns)
    if not (between_rows.any() or between_columns.any()):
        return total
    down, right, both = (_difference(planes, axes) for axes in ((0,), (1,), (0, 1)))
    total -= _weighted_sum(down, between_rows, columns) + _weighted_sum(right, rows, between_columns)
    return total + _weighted_sum(both, between_rows, between_columns)


def _square_weights(resize: Matrix) -> tuple[Matrix, Matrix]:
    """Return how much squares of places, (given,), and of neighbours' differences, (given - 1,), count."""
    return resize.mean(axis=0), (resize[:, :-1] * resize[:, 1:]).mean(axis=0)


def _weighted_sum(planes: Any, by_rows: Matrix, by_columns: Matrix) -> Any:
    """Weigh the squares of a map and add them up, (n, channels, 1, 1)."""
    return ops.sum(ops.square(planes) * np.outer(by_rows, by_columns), axis=_AXES, keepdims=True)


def _difference(planes: Any, axes: tuple[int, ...]) -> Any:
    """Return each place less the next one, along rows, columns or both; the map is smaller by one there."""
    kernel = np.ones((1, 1), np.float32)
    for axis in axes:
        kernel = np.concatenate([kernel, -kernel], axis)
    every = np.broadcast_to(kernel[..., None, None], (*kernel.shape, planes.shape[1], 1))
    made = ops.depthwise_conv(
        _channels_last(planes), np.ascontiguousarray(every), data_format="channels_last"
    )
    return layers.Permute((3, 1, 2))(made)


def _resize(given: int, made: int) -> Matrix:
    """Return the matrix of a bilinear resizing along one axis, centres of pixels at their half."""
    place = ((np.arange(made) + 0.5) * given / made - 0.5).clip(0, given - 1)
    lower = np.floor(place).astype(int)
    share = place - lower
    matrix = np.zeros((made, given), np.float32)
    np.add.at(matrix, (np.arange(made), lower), 1 - share)
    np.add.at(matrix, (np.arange(made), np.minimum(lower + 1, given - 1)), share)
    return matrix


def _pool(given: int, side: int) -> Matrix:
    """Return the matrix of an average over `side` places each; padding does not count."""
    made = -(-given // side)
    before = (made * side - given) // 2  # TensorFlow's "same": the odd one of the padding is behind
    cell = (np.arange(given) + before) // side
    matrix = (cell == np.arange(made)[:, None]).astype(np.float32)
    pooled: Matrix = matrix / matrix.sum(axis=1, keepdims=True)
    return pooled
