"""How a slice is looked at: which part of it, and from which side.

A picture that stands alone is looked at in every way that the recipe names, and the mean logit counts: it may
be a figure whose author cut and scaled it. A slice of a study is looked at in the first way only, for its
neighbours show the same lung again.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungnode.logits import to_logits, to_probabilities
from lungnode.pixels import Box, Gray, crop_box, model_input
from lungnode.recipe import Input, Way


@dataclass(frozen=True)
class Place:
    """The part of a slice that the network sees."""

    box: Box
    size: int
    mirrored: bool = False

    def take(self, gray: Gray) -> Gray:
        """Return that part, shape (size, size)."""
        image = model_input(gray, self.box, self.size)
        return np.ascontiguousarray(image[:, ::-1]) if self.mirrored else image


def find_place(gray: Gray, way: Way, recipe: Input) -> Place:
    """Find what of a slice is seen in one way."""
    part, _, side = way.partition(" ")
    whole = Box(0, gray.shape[0], 0, gray.shape[1])
    box = whole if part == "whole" else crop_box(gray, recipe.crop)
    return Place(box, recipe.size, mirrored=side == "mirrored")


def ways_of(recipe: Input, *, alone: bool) -> tuple[Way, ...]:
    """Return the ways in which a slice is looked at; `alone` says that no study surrounds it."""
    return recipe.views if alone else recipe.views[:1]


def join_views(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probability of the mean logit.

    Args:
        probabilities: Shape (n, views).
    """
    return to_probabilities(to_logits(probabilities).mean(axis=1)).astype(np.float32)
