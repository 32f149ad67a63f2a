"""What the model was given, in a few numbers: when they wander, scanners or protocols changed."""

from itertools import pairwise
from statistics import median

import numpy as np

from worker.analysis import Seen

DIGITS = 3


def input_statistics(seen: Seen) -> dict[str, float]:
    """Return count, spacing and gray levels of the slices that a model saw of a study.

    `gray_mean` and `gray_sd` are of all their pixels, in the lung window, 0 to 255.
    """
    counts = np.bincount(seen.slices.ravel(), minlength=256)
    levels = np.arange(256)
    mean = float(np.average(levels, weights=counts))
    spread = float(np.average((levels - mean) ** 2, weights=counts)) ** 0.5
    steps = [upper - lower for upper, lower in pairwise(seen.positions_mm)] if seen.is_placed else []
    found = {"slices": float(len(seen.slices)), "gray_mean": mean, "gray_sd": spread}
    if steps:
        found["spacing_mm"] = median(steps)
    return {name: round(value, DIGITS) for name, value in found.items()}
