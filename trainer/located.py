"""Where the class map of an infected slice lies: how much of what a heatmap shows is in the lung."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import ndimage

from lungnode.heatmap import ClassMap, upsample
from lungnode.lungs import Mask, lung_mask
from lungnode.pixels import Box, Gray

CLOSED: Final = 0.05  # of the picture's longer side: bays and holes up to twice as wide count as lung
COARSE: Final = 128  # rows or columns at which the lung is closed; finer would only cost time


@dataclass(frozen=True)
class Located:
    """Where the class map of an infected slice lies; NaN where nothing is shown or no lung is found."""

    index: int  # of the sample
    class_map: ClassMap  # in [0, 1], as a heatmap shows it
    box: Box  # of the slice, which the network saw
    inside: float  # share of what is shown that lies in the lung mask
    closed: float  # the same of the mask with its bays and holes, where dense lesions lie
    lung: float  # share of the box that is in the mask: what a map that knows nothing would have


def locate(index: int, gray: Gray, box: Box, class_map: ClassMap) -> Located:
    """Measure where a class map lies on its slice."""
    lung = lung_mask(gray)
    activation = upsample(class_map, box, *gray.shape)
    total = float(activation.sum())
    shares = (float("nan"), float("nan"))
    if total and lung.any():
        shares = float(activation[lung].sum()) / total, float(activation[close_lungs(lung)].sum()) / total
    seen = lung[box.top : box.bottom, box.left : box.right]
    return Located(index, class_map, box, *shares, float(seen.mean()))


def close_lungs(lung: Mask) -> Mask:
    """Fill narrow bays and holes of each lung: dense lesions are as bright as the chest wall, and no mask.

    Each connected part is closed alone, so that what lies between two lungs stays outside.
    """
    step = max(1, max(lung.shape) // COARSE)
    coarse = lung[::step, ::step]
    radius = CLOSED * max(coarse.shape)
    edge = int(radius) + 2
    labels, count = ndimage.label(np.pad(coarse, edge))
    closed = np.zeros(labels.shape, np.bool_)
    for number in range(1, count + 1):
        near = ndimage.distance_transform_edt(labels != number) <= radius
        closed |= ndimage.distance_transform_edt(near) > radius
    full = np.kron(closed[edge:-edge, edge:-edge], np.ones((step, step), np.bool_))
    found: Mask = full[: lung.shape[0], : lung.shape[1]] | lung
    return found
