"""A synthetic chest in Hounsfield units, slice by slice, and what is true of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungnode.phantom import vessels
from lungnode.phantom.body import APEX_MM, BLOOD, CHEST_MM, DOME_MM, FAT, Field, Mask, Plane, draw_body, plane

FIELD_OF_VIEW_MM: Final = 390.0
PARENCHYMA: Final = -865.0  # HU, at the front
DEPENDENT: Final = 45.0  # HU denser at the back, where the patient lies
TEXTURE: Final = 22.0  # HU, of lung
NOISE: Final = 14.0  # HU, of the scanner
SCANNER_PX: Final = 0.6  # over how many pixels noise is correlated
LUNG_PX: Final = 1.6
TISSUE_PX: Final = 2.6
BLUR_MM: Final = 0.55  # of the scanner and its kernel
WALL_MM: Final = 1.3  # of a bronchus
TISSUE: Final = 16.0  # HU, unevenness of muscle and fat
LESIONS: Final = 14
GROUND_GLASS: Final = -430.0  # HU, where a lesion is full; -650 at its edge
SEEN_MM2: Final = 20.0  # of lung on a slice that counts as showing it
LESION_MM2: Final = 30.0  # of opacity that counts as a lesion
OPAQUE: Final = 0.3  # share of opacity in a pixel that is seen


@dataclass(frozen=True)
class Slice:
    """One slice and its truth."""

    hu: Field
    z_mm: float
    shows_lung: bool
    shows_lesion: bool


class _Noise:
    """Noise of unit deviation, correlated over some pixels.

    One periodic tile a correlation length is drawn and then shifted at random: filtering anew for every slice
    would take most of the time.
    """

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self._tiles = {sigma: _tile(rng, size, sigma) for sigma in (SCANNER_PX, LUNG_PX, TISSUE_PX)}
        self._size = size

    def field(self, rng: np.random.Generator, sigma: float) -> Field:
        down, right = rng.integers(0, self._size, 2)
        return np.roll(self._tiles[sigma], (down, right), (0, 1))


def _tile(rng: np.random.Generator, size: int, sigma: float) -> Field:
    white = rng.standard_normal((size, size), dtype=np.float32)
    smooth = ndimage.gaussian_filter(white, sigma, mode="wrap", truncate=3)
    return np.asarray(smooth / smooth.std(), np.float32)


def draw(slices: int, size: int, seed: int, *, lesions: bool) -> Iterator[Slice]:
    """Draw a chest from top to bottom; the same arguments give the same chest."""
    rng = np.random.default_rng(seed)
    tree = np.concatenate([vessels.grow(rng, -1), vessels.grow(rng, +1)])
    airways = np.concatenate([vessels.bronchi(-1), vessels.bronchi(+1)])
    spots = _lesions(rng) if lesions else np.zeros((0, 6))
    noise = _Noise(rng, size)
    pixel = FIELD_OF_VIEW_MM / size
    for index in range(slices):
        at = plane(size, pixel, -(index + 0.5) * CHEST_MM / slices)
        own = np.random.default_rng([seed, index])
        hu, lungs = draw_body(at)
        _texture(hu, at, lungs, noise, own)
        density = _density(at, spots, noise, own) * lungs
        hu += density * (GROUND_GLASS - hu)
        vessels.draw(hu, at, tree, BLOOD, lungs)
        walls = airways + np.array([0, 0, 0, 0, 0, 0, WALL_MM], np.float32)
        vessels.draw(hu, at, walls, BLOOD)
        vessels.draw(hu, at, airways, -985.0)
        yield Slice(
            hu=_scan(hu, pixel, noise, own),
            z_mm=at.z,
            shows_lung=bool(lungs.sum() * pixel**2 >= SEEN_MM2),
            shows_lesion=bool((density > OPAQUE).sum() * pixel**2 >= LESION_MM2),
        )


def _texture(hu: Field, at: Plane, lungs: Mask, noise: _Noise, rng: np.random.Generator) -> None:
    body = hu > 2 * FAT
    hu += body * TISSUE * noise.field(rng, TISSUE_PX)
    texture = noise.field(rng, LUNG_PX) * TEXTURE
    depth = np.broadcast_to(np.clip((at.y + 80) / 160, 0, 1) * DEPENDENT, hu.shape)
    hu[lungs] = (PARENCHYMA + depth + texture)[lungs]


def _lesions(rng: np.random.Generator) -> NDArray[np.float64]:
    """Place ground-glass opacities at the pleura, more at the back and below: rows of centre and axes."""
    angle = rng.uniform(0.0, 1.9, LESIONS)  # 0 is the back, pi/2 the side
    side = np.where(np.arange(LESIONS) % 2, 1, -1)
    z = rng.uniform(DOME_MM[0] - 35, APEX_MM[0] - 50, LESIONS)
    x = side * (66 + np.sin(angle) * 52)
    y = -2 + np.cos(angle) * 74
    axes = rng.uniform([13, 11, 10], [32, 24, 24], (LESIONS, 3))
    return np.column_stack([x, y, z, axes])


def _density(at: Plane, spots: NDArray[np.float64], noise: _Noise, rng: np.random.Generator) -> Field:
    """Return in [0, 1] how much of each pixel is opacity: soft at the edge, uneven inside."""
    shape = (at.y.shape[0], at.x.shape[1])
    density = np.zeros(shape, np.float32)
    near = spots[np.abs(spots[:, 2] - at.z) < spots[:, 5]] if len(spots) else spots
    if not len(near):
        return density
    uneven = 1 + 0.22 * noise.field(rng, TISSUE_PX)
    for x, y, z, wide, deep, high in near:
        level = ((at.x - x) / wide) ** 2 + ((at.y - y) / deep) ** 2 + ((at.z - z) / high) ** 2
        density = np.maximum(density, np.clip(1.5 * (1 - level * uneven), 0, 1).astype(np.float32))
    return np.asarray(density * np.clip(uneven, 0.4, 1), np.float32)


def _scan(hu: Field, pixel_mm: float, noise: _Noise, rng: np.random.Generator) -> Field:
    blurred = ndimage.gaussian_filter(hu, BLUR_MM / pixel_mm, mode="nearest", truncate=3)
    return np.clip(blurred + noise.field(rng, SCANNER_PX) * NOISE, -1024, 3071).astype(np.float32)
