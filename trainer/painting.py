"""Lesions painted into healthy lungs.

A model that is given one collection of healthy scans and another of sick figures learns to tell collections
apart. A healthy slice beside the same slice with a painted lesion differ by the lesion alone.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungnode.lungs import Mask, lung_mask
from lungnode.pixels import Gray

Field = NDArray[np.float64]  # a value a pixel

MIN_LUNG: Final = 0.05  # of the picture; on less a lesion would not be told from noise
MAX_LESIONS: Final = 4
PERIPHERAL: Final = 0.75  # of the lesions start near the pleura, as COVID-19 pneumonia does
RIM: Final = 0.15  # of the lung's size: what "near" is
RADIUS: Final = (0.08, 0.30)  # of the lung's size
ASPECT: Final = (0.5, 1.0)
DENSITY: Final = (0.25, 0.75)  # between lung and soft tissue: ground glass to consolidation
TEXTURE: Final = 0.2  # of the density
EDGE: Final = 6.0  # steepness of the lesion's border
DEFAULT_TISSUE: Final = 230.0  # gray


@dataclass(frozen=True)
class Painted:
    """A slice with lesions, and where they are."""

    gray: Gray
    density: Field  # of the lesions, shape of the slice: 0 none, 1 as dense as soft tissue


@dataclass(frozen=True)
class _Lung:
    mask: Mask
    depth: Field  # distance to the pleura, pixels
    size: float  # side of a square as large as one lung, pixels


def paint_lesions(gray: Gray, random: np.random.Generator) -> Painted | None:
    """Return the slice with one to four ground-glass opacities; None where there is too little lung."""
    mask = lung_mask(gray)
    if mask.mean() < MIN_LUNG:
        return None
    lung = _Lung(mask, ndimage.distance_transform_edt(mask), float(np.sqrt(mask.sum() / 2)))
    density: Field = np.zeros(gray.shape)
    for _ in range(random.integers(1, MAX_LESIONS + 1)):
        density = np.maximum(density, _lesion(lung, random))
    # The lung's own soft edge: no lesion reaches into the chest wall.
    density = density.clip(0, 0.95) * ndimage.gaussian_filter(mask.astype(np.float64), 0.01 * lung.size)
    # Vessels and airway walls are as bright as the lesion or brighter: they stay.
    painted = gray + density * (np.maximum(gray, _tissue(gray, mask)) - gray)
    return Painted(painted.clip(0, 255).astype(np.uint8), density)


def _tissue(gray: Gray, mask: Mask) -> float:
    """Return the gray of soft tissue in this picture, whose window nobody knows."""
    bright = gray[~mask & (gray > 150)]  # noqa: PLR2004 - brighter than fat in a lung window
    return float(np.median(bright)) if bright.size else DEFAULT_TISSUE


def _lesion(lung: _Lung, random: np.random.Generator) -> Field:
    """Return the density of one lesion: a tilted ellipse with a ragged border and texture."""
    near = lung.mask & (lung.depth < RIM * lung.size) if random.random() < PERIPHERAL else lung.mask
    places = np.argwhere(near if near.any() else lung.mask)
    row, column = places[random.integers(len(places))]
    radius, aspect = lung.size * random.uniform(*RADIUS), random.uniform(*ASPECT)
    tilt = random.uniform(0, np.pi)
    y, x = np.ogrid[: lung.mask.shape[0], : lung.mask.shape[1]]
    along = ((x - column) * np.cos(tilt) + (y - row) * np.sin(tilt)) / radius
    across = ((y - row) * np.cos(tilt) - (x - column) * np.sin(tilt)) / (radius * aspect)
    distance = np.sqrt(along**2 + across**2) + 0.25 * _noise(lung.mask.shape, radius / 4, random)
    texture = 1 + TEXTURE * _noise(lung.mask.shape, 0.012 * lung.size, random)
    lesion: Field = random.uniform(*DENSITY) * texture / (1 + np.exp(EDGE * (distance - 1).clip(max=50)))
    return lesion


def _noise(shape: tuple[int, ...], scale: float, random: np.random.Generator) -> Field:
    """Return smooth noise of unit deviation."""
    noise: Field = ndimage.gaussian_filter(random.standard_normal(shape), scale)
    deviation = noise.std()
    return noise / deviation if deviation else noise
