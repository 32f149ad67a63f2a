# ruff: noqa: PLR2004 - the numbers are the drawing: coordinates and radii in millimetres, levels of an ellipse
"""The anatomy of a synthetic chest: shapes in millimetres, a slice at a time.

Coordinates are the patient's: x to the left, y to the back, z to the head; z is 0 at the top of the chest and
falls to -CHEST_MM. Every number is a plausible adult's, in millimetres or Hounsfield units.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]  # shape (rows, columns)
Mask = NDArray[np.bool_]

CHEST_MM: Final = 310.0  # from above the lungs to below them
APEX_MM: Final = (-26.0, -32.0)  # z of the right and left apex
CARINA_MM: Final = -122.0
DOME_MM: Final = (-196.0, -212.0)  # z of the right and left top of the diaphragm

AIR: Final = -1000.0
FAT: Final = -100.0
MUSCLE: Final = 55.0
BLOOD: Final = 45.0
LIVER: Final = 60.0
STOMACH: Final = 30.0
MARROW: Final = 180.0
CORTEX: Final = 700.0
FOAM: Final = -920.0
SHELL: Final = 60.0  # of the table


@dataclass(frozen=True)
class Plane:
    """The coordinates of one slice's pixels."""

    x: Field
    y: Field
    z: float


def plane(size: int, pixel_mm: float, z: float) -> Plane:
    """Return the coordinates of a square matrix centred on the body."""
    along = ((np.arange(size) - (size - 1) / 2) * pixel_mm).astype(np.float32)
    return Plane(along[None, :], along[:, None], z)


def draw_body(at: Plane) -> tuple[Field, Mask]:
    """Draw everything but vessels, lesions and noise.

    Returns:
        Hounsfield units with empty lungs at 0 where the mask is set, and the mask of both lungs.
    """
    hu = np.full((at.y.shape[0], at.x.shape[1]), AIR, np.float32)
    _table(hu, at)
    _chest_wall(hu, at)
    lungs = lung_region(at)
    _abdomen(hu, at)
    hu[lungs] = 0
    _mediastinum(hu, at, lungs)
    _spine(hu, at)
    return hu, lungs


def lung_region(at: Plane) -> Mask:
    """Mark both lungs: inside the rib cage, outside the mediastinum, above the diaphragm."""
    return _lung(at, -1) | _lung(at, +1)


def ellipse(at: Plane, centre: tuple[float, float], axes: tuple[float, float], power: float = 2.0) -> Field:
    """Return a level that is 1 on the ellipse, less inside and more outside."""
    across, along = np.abs((at.x - centre[0]) / axes[0]), np.abs((at.y - centre[1]) / axes[1])
    level: Field = (across**power + along**power).astype(np.float32)
    return level


def _ramp(z: float, top: float, bottom: float) -> float:
    """Rise smoothly from 0 at z = top to 1 at z = bottom."""
    t = min(max((z - top) / (bottom - top), 0.0), 1.0)
    return t * t * (3 - 2 * t)


def _outline(z: float) -> tuple[float, float]:
    """Half width and half depth of the body: shoulders, chest, waist."""
    shoulders, waist = 1 - _ramp(z, 0, -75), _ramp(z, -190, -CHEST_MM)
    return 163 + 17 * shoulders - 6 * waist, 108 - 28 * shoulders + 6 * waist


def cage(z: float) -> tuple[float, float]:
    """Half width and half depth of the inside of the rib cage."""
    opened = float(np.sqrt(1 - (1 - min(max((-8 - z) / 105, 0.0), 1.0)) ** 2))
    return 40 + 94 * opened, 30 + 58 * opened


def _lung(at: Plane, side: int) -> Mask:
    apex = APEX_MM[0 if side < 0 else 1]
    if at.z >= apex:
        return np.zeros((at.y.shape[0], at.x.shape[1]), np.bool_)
    # A dome above, straight below: the apex is small and round and lies beside the spine.
    opened = float(np.sqrt(1 - (1 - min((apex - at.z) / 105, 1.0)) ** 2))
    centre = side * (47 + 20 * opened), 24 - 22 * opened
    inside = ellipse(at, centre, (8 + 58 * opened, 10 + 77 * opened), 2.3) < 1
    width, depth = cage(at.z)
    inside &= ellipse(at, (0, 0), (width, depth), 2.2) < 1
    mask: Mask = inside & ~_middle(at, side) & (diaphragm(at, side) < at.z)
    return mask


def _middle(at: Plane, side: int) -> Mask:
    """Mark what lies between the lungs: great vessels and heart, oesophagus, aorta and spine."""
    heart = _ramp(at.z, -95, -165)
    wave = 6 * np.sin(at.y / 19 + side + at.z / 31) + 4 * np.sin(at.y / 8 + at.z / 17)
    band = np.abs(at.x) < 19 + 9 * heart + 6 * _ramp(at.z, -40, -80) + wave
    root = _ramp(at.z, -100, -125) + 0.01
    hilum = ellipse(at, (side * 20, 8), (25 * root, 22 * root)) < 1
    bulge = ellipse(at, (16, -34), (26 + 36 * heart, 26 + 20 * heart)) < 1
    aorta = ellipse(at, (27, 42), (14, 14)) < 1
    column = ellipse(at, (0, 66), (27, 27)) < 1
    middle: Mask = band | bulge | column | (aorta & (at.z < -70))
    return middle | (hilum & (at.z > -165))


def diaphragm(at: Plane, side: int) -> Field:
    """Return the height of the diaphragm: a dome that falls steeply to the back, where the recess is."""
    top = DOME_MM[0 if side < 0 else 1]
    across, along = (at.x - side * 66) / 70, (at.y + 12) / 95
    fall = 58 * (across**2 + along**2) ** 1.5 + 26 * np.clip(along, 0, None) ** 3
    return (top - fall).astype(np.float32)


def _table(hu: Field, at: Plane) -> None:
    height = at.y + (at.x / 42) ** 2 - 126  # a trough whose sides rise
    inside = (np.abs(height) < 9) & (np.abs(at.x) < 205)
    hu[inside] = FOAM
    hu[inside & (np.abs(height) > 6.5)] = SHELL


def _chest_wall(hu: Field, at: Plane) -> None:
    width, depth = _outline(at.z)
    body = ellipse(at, (0, 0), (width, depth), 2.25)
    hu[body < 1] = FAT
    hu[(body < 1) & (body > 0.965)] = 30  # skin
    hu[ellipse(at, (0, 0), (width - 13, depth - 11), 2.25) < 1] = MUSCLE
    _shoulders(hu, at)
    inner, deep = cage(at.z)
    ring = ellipse(at, (0, 0), (inner + 6, deep + 6), 2.2)
    hu[(ring < 1.35) & (ring > 1.14) & (body < 0.9)] = FAT / 2
    _ribs(hu, at)
    hu[ellipse(at, (0, 0), (inner, deep), 2.2) < 1] = FAT + 40  # between the pleurae


def _shoulders(hu: Field, at: Plane) -> None:
    for side in (-1, 1):
        if at.z > -45:
            head = ellipse(at, (side * 150, 8), (17, 19))
            hu[head < 1] = CORTEX
            hu[head < 0.75] = MARROW
        if at.z > -100:
            blade = np.abs(at.y - 62 - side * (at.x - side * 105) * -0.5) < 4
            hu[blade & (np.abs(at.x - side * 105) < 32)] = MARROW + 120


def _ribs(hu: Field, at: Plane) -> None:
    width, depth = cage(at.z)
    angle = np.arctan2(at.x / width, at.y / depth)  # 0 at the back, pi at the front
    ring = ellipse(at, (0, 0), (width + 6, depth + 6), 2.2)
    # A rib starts at the spine and falls 70 mm on its way to the front; the next is 26 mm below.
    phase = ((at.z + 70 * (np.abs(angle) / np.pi) ** 1.2) / 26) % 1.0
    rib = (ring < 1.02) & (ring > 0.86) & (np.abs(phase - 0.5) < 0.23) & (np.abs(angle) < 2.6)
    hu[rib] = CORTEX
    hu[rib & (ring < 0.985) & (ring > 0.895) & (np.abs(phase - 0.5) < 0.17)] = MARROW
    if -205 < at.z < -45:
        sternum = ellipse(at, (0, -depth - 7), (21, 6), 3)
        hu[sternum < 1] = CORTEX - 300
        hu[sternum < 0.6] = MARROW - 60


def _abdomen(hu: Field, at: Plane) -> None:
    width, depth = cage(at.z)
    inside = ellipse(at, (0, 0), (width - 2, depth - 2), 2.2) < 1
    right, left = diaphragm(at, -1) >= at.z, diaphragm(at, +1) >= at.z
    hu[inside & right & (at.x < 25)] = LIVER
    hu[inside & left & (at.x >= 25)] = STOMACH
    hu[inside & left & (ellipse(at, (92, 30), (32, 34)) < 1)] = LIVER - 10  # spleen
    gas = ellipse(at, (55, -38), (22, 14)) < 1
    if at.z < DOME_MM[1] - 22:
        hu[inside & left & gas & (at.y < -34)] = AIR


def _mediastinum(hu: Field, at: Plane, lungs: Mask) -> None:
    free = ~lungs
    heart = _ramp(at.z, -95, -165) * (at.z > DOME_MM[1] - 25)
    if heart > 0:
        hu[(ellipse(at, (16, -34), (24 + 34 * heart, 24 + 18 * heart)) < 1) & free] = BLOOD
    if at.z > -112:
        for centre, radius in (((-17, -14), 9), ((14, -18), 8), ((2, -27), 8), ((24, 6), 6)):
            hu[(ellipse(at, centre, (radius, radius)) < 1) & free] = BLOOD
    if -100 < at.z < -70:  # the aortic arch
        arch = np.abs(at.x - 4 - (at.y + 25) * 0.32) < 12
        hu[arch & (np.abs(at.y - 8) < 36) & free] = BLOOD
    if at.z < -85:
        hu[ellipse(at, (27, 42), (12, 12)) < 1] = BLOOD
    if at.z < -100:
        hu[(ellipse(at, (-4, 30), (8, 7)) < 1) & free] = MUSCLE - 20  # oesophagus
    if at.z > CARINA_MM:
        hu[ellipse(at, (0, 14), (10.5, 10.5)) < 1] = MUSCLE
        hu[ellipse(at, (0, 14), (8.5, 8.5)) < 1] = AIR


def _spine(hu: Field, at: Plane) -> None:
    disc = (at.z / 25) % 1.0 < 0.2
    body = ellipse(at, (0, 64), (20, 16), 2.3)
    hu[body < 1] = 90 if disc else CORTEX - 200
    if not disc:
        hu[body < 0.8] = MARROW
    arch = ellipse(at, (0, 88), (16, 13))
    hu[(arch < 1) & (body > 1)] = CORTEX - 250
    hu[ellipse(at, (0, 86), (10, 9)) < 1] = 25
    hu[(np.abs(at.x) < 4) & (at.y > 96) & (at.y < 96 + 10 * _ramp(at.z, 0, -60))] = CORTEX - 300
