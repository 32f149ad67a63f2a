"""From what the network's places add to the logit to what a heatmap shows."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

ClassMaps = NDArray[np.float32]  # shape (n, rows, columns)

SPAN: Final = 0.08  # of the picture's side: single places flicker, and no lesion that matters is smaller


def smooth(class_maps: ClassMaps) -> ClassMaps:
    """Average each place with its neighbours within `SPAN`; those of a coarse map stand for themselves."""
    span = max(1, round(SPAN * class_maps.shape[2]))
    smoothed: ClassMaps = ndimage.uniform_filter(class_maps, (0, span, span), mode="nearest")
    return smoothed


def show_maps(class_maps: ClassMaps, scale: float) -> ClassMaps:
    """Bring activations to one scale for all slices: 0 adds nothing to the logit, 1 adds `scale` or more."""
    shown: ClassMaps = (smooth(class_maps) / np.float32(scale)).clip(0.0, 1.0)
    return shown
