"""Network inputs made of samples: as they are, disturbed, and with painted lesions."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungnode.errors import UnusableError
from lungnode.lungs import lung_mask
from lungnode.pixels import Gray
from lungnode.recipe import Recipe, Way
from lungnode.views import find_place, ways_of
from trainer.grays import file_digest, load_gray
from trainer.jitter import Jitter
from trainer.jpeg import compress
from trainer.painting import paint_lesions
from trainer.samples import Sample


@dataclass(frozen=True)
class View:
    """One way to look at a sample."""

    painted: bool = False  # with lesions painted into its healthy lung
    disturbance: int = 0  # 0: as it is; each other number draws another disturbance
    way: Way = "crop"

    @property
    def genuine(self) -> bool:
        """Whether the sample is seen as it is: such views alone are evaluated."""
        return not self.painted and not self.disturbance


@dataclass(frozen=True)
class Example:
    """One network input and what is to be learnt of it."""

    image: Gray  # shape (size, size)
    positive: bool
    lung: Gray  # shape (size, size): 255 where lung is
    # Where lesions were painted, shape (size, size): 255 is as dense as soft tissue. None: nobody knows.
    lesions: Gray | None = None


def training_views(sample: Sample, recipe: Recipe) -> list[View]:
    """List the ways in which a sample is learnt, those of one label together, the plain ones first.

    Disturbances draw the side by themselves, so they come once for each part of a slice that is looked at.
    """
    ways = recipe.input.views
    parts = [way for way in ways if "mirrored" not in way]
    disturbances = range(1, recipe.training.views if recipe.training.augmentation else 1)
    views = [View(way=way) for way in ways]
    views += [View(disturbance=number, way=part) for number in disturbances for part in parts]
    if recipe.data.painted and sample.healthy_scan:
        views += [replace(view, painted=True) for view in views]
    return views


def judging_views(sample: Sample, recipe: Recipe) -> list[View]:
    """List the ways in which a sample is judged; the first is the one that is shown."""
    return [View(way=way) for way in ways_of(recipe.input, alone=not sample.study)]


def make_example(sample: Sample, view: View, recipe: Recipe, content: str) -> Example | None:
    """Make the input of one view; None where too little lung is seen to paint lesions into.

    Args:
        sample: The slice.
        view: How it is looked at.
        recipe: Its seed draws disturbances and lesions.
        content: SHA-256 of the slice's file, hexadecimal: the draws depend on it, and on nothing around it.

    Raises:
        UnusableError: The file holds no slice that can be read, or another one than it did.
        UnavailableError: The file is away.
    """
    random = np.random.default_rng(
        (recipe.training.seed, int(view.painted), view.disturbance, int(content[:16], 16))
    )
    if sample.digest and file_digest(sample.path) != sample.digest:
        raise UnusableError(f"The image {sample.path} has changed since its list was written.")
    gray = load_gray(sample)
    # Of the slice as it is: painted lesions stay part of the lung.
    slice_ = _Slice(gray, _levels(lung_mask(gray)), np.zeros_like(gray) if sample.healthy_scan else None)
    if view.painted:
        painted = paint_lesions(gray, random)
        if painted is None:
            return None
        slice_ = replace(slice_, gray=painted.gray, lesions=_levels(painted.density))
    return _see(slice_, view, recipe, random, positive=view.painted or sample.positive)


@dataclass(frozen=True)
class _Slice:
    """A whole slice, and what is known of each place; all of one shape."""

    gray: Gray
    lung: Gray
    lesions: Gray | None


def _levels(share: NDArray[Any]) -> Gray:
    levels: Gray = np.rint(share.clip(0, 1) * 255.0).astype(np.uint8)
    return levels


def _see(
    slice_: _Slice, view: View, recipe: Recipe, random: np.random.Generator, *, positive: bool
) -> Example:
    """Return the slice as the network sees it, with what is known of each place seen alike."""
    jitter, place = Jitter(recipe.input.size, random), find_place(slice_.gray, view.way, recipe.input)
    if view.disturbance:
        place = jitter.place(place.box, slice_.gray.shape)
    image = place.take(slice_.gray)
    # Every picture is encoded again alike: the file type, which goes with the label, must tell nothing.
    image = jitter.disturb(image) if view.disturbance else compress(image, recipe.input.jpeg_quality)
    lesions = None if slice_.lesions is None else place.take(slice_.lesions)
    return Example(image, positive, place.take(slice_.lung), lesions)
