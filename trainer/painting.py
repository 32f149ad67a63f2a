"""Lesions painted into healthy lungs.

A model that is given one collection of healthy scans and another of sick figures learns to tell collections
apart. A healthy slice beside the same slice with a painted lesion differ by the lesion alone.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from lungnode.lungs import Mask, lung_mask
from lungnode.pixels import Gray

Field = NDArray[np.float64]  # a value a pixel

Range = tuple[float, float]

MIN_LUNG: Final = 0.05  # of the picture; on less a lesion would not be told from noise
PERIPHERAL: Final = 0.8  # of the lesions start near the pleura, as COVID-19 pneumonia does
RIM: Final = 0.15  # of the lung's size: what "near" is
ASPECT: Final = (0.3, 1.0)
RAGGED: Final = (0.1, 0.5)  # of the radius: how far the border strays
GRAIN: Final = (2.0, 6.0)  # of the border: so many lumps a radius
TEXTURE: Final = (0.05, 0.4)  # of the density
FINENESS: Final = (0.008, 0.03)  # of the lung's size: the texture's
EDGE: Final = (3.0, 12.0)  # steepness of the lesion's border
CRAZY_PAVING: Final = 0.3  # of the lesions are crossed by thickened septa
SEPTA: Final = (0.012, 0.03)  # of the lung's size: the width of their meshes
DENSEST: Final = 0.95  # of soft tissue
DEFAULT_TISSUE: Final = 230.0  # gray


@dataclass(frozen=True)
class Style:
    """What a disease looks like at one stage."""

    lesions: tuple[int, int]  # fewest and most
    radius: Range  # of the lung's size
    density: Range  # between lung and soft tissue: ground glass to consolidation


EARLY: Final = Style(lesions=(1, 3), radius=(0.06, 0.2), density=(0.12, 0.5))
COMMON: Final = Style(lesions=(1, 4), radius=(0.08, 0.35), density=(0.15, 0.9))
FLORID: Final = Style(lesions=(3, 9), radius=(0.08, 0.6), density=(0.15, 0.9))
STYLES: Final = (EARLY, COMMON, FLORID)


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
    """Return the slice with opacities of one of the styles; None where there is too little lung."""
    mask = lung_mask(gray)
    if mask.mean() < MIN_LUNG:
        return None
    lung = _Lung(mask, ndimage.distance_transform_edt(mask), float(np.sqrt(mask.sum() / 2)))
    style = STYLES[random.integers(len(STYLES))]
    density: Field = np.zeros(gray.shape)
    for _ in range(random.integers(style.lesions[0], style.lesions[1] + 1)):
        density = np.maximum(density, _lesion(lung, style, random))
    # The lung's own soft edge: no lesion reaches into the chest wall.
    density = density.clip(0, DENSEST) * ndimage.gaussian_filter(mask.astype(np.float64), 0.01 * lung.size)
    # Vessels and airway walls are as bright as the lesion or brighter: they stay.
    painted = gray + density * (np.maximum(gray, _tissue(gray, mask)) - gray)
    return Painted(painted.clip(0, 255).astype(np.uint8), density)


def _tissue(gray: Gray, mask: Mask) -> float:
    """Return the gray of soft tissue in this picture, whose window nobody knows."""
    bright = gray[~mask & (gray > 150)]  # noqa: PLR2004 - brighter than fat in a lung window
    return float(np.median(bright)) if bright.size else DEFAULT_TISSUE


def _lesion(lung: _Lung, style: Style, random: np.random.Generator) -> Field:
    """Return the density of one lesion: a tilted ellipse with a ragged border and texture."""
    near = lung.mask & (lung.depth < RIM * lung.size) if random.random() < PERIPHERAL else lung.mask
    places = np.argwhere(near if near.any() else lung.mask)
    row, column = places[random.integers(len(places))]
    # Small ones are as frequent as large ones.
    radius = lung.size * np.exp(random.uniform(*np.log(style.radius)))
    tilt, aspect = random.uniform(0, np.pi), random.uniform(*ASPECT)
    y, x = np.ogrid[: lung.mask.shape[0], : lung.mask.shape[1]]
    along = ((x - column) * np.cos(tilt) + (y - row) * np.sin(tilt)) / radius
    across = ((y - row) * np.cos(tilt) - (x - column) * np.sin(tilt)) / (radius * aspect)
    border = random.uniform(*RAGGED) * _noise(lung.mask.shape, radius / random.uniform(*GRAIN), random)
    distance = np.sqrt(along**2 + across**2) + border
    density = random.uniform(*style.density) * _texture(lung, random)
    lesion: Field = density / (1 + np.exp(random.uniform(*EDGE) * (distance - 1).clip(max=50)))
    return lesion


def _texture(lung: _Lung, random: np.random.Generator) -> Field:
    """Return the density of each place, 1 in the mean; some lesions show thickened septa."""
    scale = random.uniform(*FINENESS) * lung.size
    texture: Field = 1 + random.uniform(*TEXTURE) * _noise(lung.mask.shape, scale, random)
    if random.random() < CRAZY_PAVING:
        # Where smooth noise changes its sign there are meshes of lines.
        meshes = _noise(lung.mask.shape, random.uniform(*SEPTA) * lung.size, random)
        texture += 0.6 * np.exp(-((meshes / 0.25) ** 2))
    return texture


def _noise(shape: tuple[int, ...], scale: float, random: np.random.Generator) -> Field:
    """Return smooth noise of unit deviation, drawn on a grid no finer than it needs."""
    factor = max(1, int(scale / 1.5))
    small = random.standard_normal([-(-side // factor) + 2 for side in shape])
    smooth = ndimage.gaussian_filter(small, scale / factor)
    if factor > 1:
        size = (smooth.shape[1] * factor, smooth.shape[0] * factor)
        enlarged = Image.fromarray(smooth.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
        smooth = np.asarray(enlarged, np.float64)
    noise: Field = smooth[: shape[0], : shape[1]]
    deviation = noise.std()
    return noise / deviation if deviation else noise
