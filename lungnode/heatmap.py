"""From class activation maps to colours on a slice; pure, nothing is read or written.

Colour means activation on one absolute scale for all slices and studies, so a slice without a finding stays
gray.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lungnode.pixels import Box, Gray

ClassMap = NDArray[np.float32]  # shape (rows, columns) of the network's last map, in [0, 1]
Activation = NDArray[np.float32]  # shape (rows, columns) of the source matrix, in [0, 1]
Color = NDArray[np.uint8]  # shape (rows, columns, 3), RGB

# Our own scale, with lightness rising evenly from violet to yellow, so that it reads in gray and for the
# colour-blind as well. RGB at equal steps of activation.
ANCHORS: Final = (
    (59, 15, 112),
    (131, 38, 129),
    (200, 62, 100),
    (240, 110, 50),
    (250, 180, 50),
    (252, 240, 140),
)
FLOOR: Final = 0.25  # activation below which nothing is painted: noise of the network, not a finding
FULL: Final = 0.6  # activation from which on the colour has its whole share
OPAQUE: Final = 0.55  # that share: the lung stays visible beneath


def upsample(class_map: ClassMap, box: Box, rows: int, columns: int) -> Activation:
    """Return the activation of every pixel of the source; 0 outside `box`, which the network never saw."""
    size = (box.right - box.left, box.bottom - box.top)
    smooth = Image.fromarray(class_map.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    activation: Activation = np.zeros((rows, columns), np.float32)
    activation[box.top : box.bottom, box.left : box.right] = np.asarray(smooth).clip(0, 1)
    return activation


def overlay(gray: Gray, activation: Activation) -> Color:
    """Return the slice in colour: gray up to an activation of `FLOOR`, then more and more of its colour."""
    color: Color = np.repeat(gray[:, :, np.newaxis], 3, axis=2)
    painted = activation > FLOOR  # a small part, as a rule
    strength = activation[painted]
    share = OPAQUE * ((strength - FLOOR) / (FULL - FLOOR)).clip(0, 1)[:, np.newaxis]
    color[painted] = np.rint(color[painted] * (1 - share) + colors(strength) * share)
    return color


def colors(activation: Activation) -> Color:
    """Return the colour of each activation."""
    table = _table()
    color: Color = table[(activation.clip(0, 1) * (len(table) - 1)).astype(np.intp)]
    return color


def _table() -> Color:
    steps = np.linspace(0, 1, len(ANCHORS))
    at = np.linspace(0, 1, 256)
    channels = [np.interp(at, steps, [anchor[channel] for anchor in ANCHORS]) for channel in range(3)]
    table: Color = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    return table


def spread_highest(probabilities: Sequence[float], count: int) -> list[int]:
    """Return at most `count` indices, in order, of the highest values that are not neighbours.

    Neighbouring slices show the same lesion. Half the even distance is kept between chosen slices as long as
    there are others; what is then left to choose is filled with the highest of the rest.
    """
    ranked = sorted(range(len(probabilities)), key=lambda index: (-probabilities[index], index))
    distance = max(1, len(probabilities) // (2 * count)) if count else 1
    chosen: list[int] = []
    for index in ranked:
        if len(chosen) < count and all(abs(index - other) >= distance for other in chosen):
            chosen.append(index)
    chosen += [index for index in ranked if index not in chosen][: count - len(chosen)]
    return sorted(chosen)
