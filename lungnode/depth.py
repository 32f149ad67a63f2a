"""What neighbouring slices of a study say together: a lesion has depth.

A vessel or noise that looks like a lesion in one slice does not in the next. So the lesion maps of a study
are averaged along the slice normal, each place with the same place of the slices around it, before the
highest cells are looked for. The places are those of the lung's crop, which moves little from slice to slice.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungnode.logits import to_logits, to_probabilities
from lungnode.recipe import Recipe

ClassMaps = NDArray[np.float32]  # shape (n, rows, columns)
Gains = NDArray[np.float64]  # shape (n,), in the unit of the class maps


def look_in_depth(
    class_maps: ClassMaps, positions_mm: Sequence[float] | None, recipe: Recipe
) -> tuple[ClassMaps, Gains]:
    """Average the lesion maps of a study along its depth, if the recipe wants it.

    Args:
        class_maps: Of the slices of one study, in any order.
        positions_mm: Where each lies along the slice normal; None: nobody knows, and each stands for itself.
        recipe: Of the model.

    Returns:
        The maps, and what to add to the logit of each slice.
    """
    reach_mm, cells = recipe.study.depth_mm, recipe.network.lesion_cells
    if positions_mm is None or not reach_mm or not cells:
        return class_maps, np.zeros(len(class_maps))
    distances = np.subtract.outer(positions_mm, positions_mm)
    weights = np.exp(-0.5 * (distances / reach_mm) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    averaged = np.tensordot(weights, class_maps, axes=1).astype(np.float32)
    return averaged, highest_cells(averaged, cells) - highest_cells(class_maps, cells)


def read_in_depth(
    probabilities: NDArray[np.float32],
    class_maps: ClassMaps,
    positions_mm: Sequence[float] | None,
    recipe: Recipe,
) -> tuple[NDArray[np.float32], ClassMaps]:
    """Return what slices of a study are once their neighbours are heard: probabilities and class maps.

    Args:
        probabilities: Of each slice by itself, as a slice of a study.
        class_maps: Calibrated, as `Model.predict` returns them.
        positions_mm: See `look_in_depth`.
        recipe: Of the model.
    """
    averaged, gains = look_in_depth(class_maps, positions_mm, recipe)
    if not gains.any():
        return probabilities, averaged
    return to_probabilities(to_logits(probabilities) + gains).astype(np.float32), averaged


def highest_cells(maps: NDArray[Any], count: int) -> NDArray[np.float64]:
    """Return the mean of the highest cells of each map."""
    ranked = np.sort(maps.reshape(len(maps), -1), axis=1)
    found: NDArray[np.float64] = ranked[:, -count:].mean(axis=1, dtype=np.float64)
    return found
