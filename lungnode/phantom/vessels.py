"""Branching vessels and bronchi of a synthetic lung: straight segments that thin out as they fork."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lungnode.phantom.body import CARINA_MM, Field, Mask, Plane

Segments = NDArray[np.float32]  # shape (n, 7): start x, y, z, end x, y, z, radius; millimetres

LOBAR: Final = 11  # branches that leave the hilum
GENERATIONS: Final = 8  # forks; the last vessels are below a pixel wide
TRUNK_MM: Final = 4.6  # radius of a lobar branch
TRUNK_LENGTH_MM: Final = 24.0
THINNER: Final = 0.77  # a branch's radius; two of them carry what one did (Murray's law: 0.79)
SHORTER: Final = 0.87


def grow(rng: np.random.Generator, side: int) -> Segments:
    """Grow the vessels of one lung from its hilum outwards."""
    ends = np.tile([side * 31.0, 6.0, CARINA_MM - 14], (LOBAR, 1))
    # Spread over the half sphere that faces the lung: a golden spiral leaves no part without vessels.
    up = np.linspace(-0.95, 0.9, LOBAR)
    turn = np.arange(LOBAR) * np.pi * 0.618 % np.pi - np.pi / 2 + rng.normal(0, 0.2, LOBAR)
    flat = np.sqrt(1 - up**2)
    ways = np.column_stack([side * flat * np.cos(turn), flat * np.sin(turn), up])
    radius, length = TRUNK_MM, TRUNK_LENGTH_MM
    segments: list[NDArray[np.float64]] = []
    for _ in range(GENERATIONS):
        tips = ends + ways * length * rng.uniform(0.6, 1.4, (len(ends), 1))
        widths = radius * rng.uniform(0.75, 1.15, (len(ends), 1))
        segments.append(np.concatenate([ends, tips, widths], axis=1))
        ends, ways = _fork(rng, tips, ways)
        radius, length = radius * THINNER, length * SHORTER
    return np.concatenate(segments).astype(np.float32)


def _fork(
    rng: np.random.Generator, tips: NDArray[np.float64], ways: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    turned = rng.normal(0, 1, ways.shape)
    turned -= (turned * ways).sum(axis=1, keepdims=True) * ways
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    spread = rng.uniform(0.35, 0.75, (len(ways), 1))
    both = np.concatenate([ways + spread * turned, ways - spread * turned])
    return np.concatenate([tips, tips]), both / np.linalg.norm(both, axis=1, keepdims=True)


def bronchi(side: int) -> Segments:
    """Return the main bronchus of one side and its first branches; the radius is the lumen's."""
    carina = [0.0, 14.0, CARINA_MM - 8]
    hilum = [side * 34.0, 12.0, CARINA_MM - 20]
    ends = ([side * 60, 4, CARINA_MM - 12], [side * 52, 30, CARINA_MM - 58], [side * 50, -18, CARINA_MM + 18])
    rows = [[*carina, *hilum, 6.0]] + [[*hilum, *end, 3.2] for end in ends]
    return np.array(rows, np.float32)


def draw(hu: Field, at: Plane, segments: Segments, value: float, where: Mask | None = None) -> None:
    """Set all pixels within the segments that this plane cuts."""
    x, y = at.x[0], at.y[:, 0]
    low = np.minimum(segments[:, 2], segments[:, 5]) - segments[:, 6]
    high = np.maximum(segments[:, 2], segments[:, 5]) + segments[:, 6]
    for segment in segments[(low <= at.z) & (at.z <= high)]:
        start, end, radius = segment[:3], segment[3:6], float(segment[6])
        left, right = np.searchsorted(x, _span(start[0], end[0], radius))
        top, bottom = np.searchsorted(y, _span(start[1], end[1], radius))
        if left == right or top == bottom:
            continue
        window = np.s_[top:bottom, left:right]
        inside = _distance2(x[None, left:right], y[top:bottom, None], at.z, start, end) < radius**2
        if where is not None:
            inside &= where[window]
        hu[window][inside] = value


def _span(one: float, other: float, radius: float) -> tuple[float, float]:
    return min(one, other) - radius, max(one, other) + radius


def _distance2(x: Field, y: Field, z: float, start: Field, end: Field) -> Field:
    """Return the squared distance of every pixel to a segment."""
    way = end - start
    t = ((x - start[0]) * way[0] + (y - start[1]) * way[1] + (z - start[2]) * way[2]) / float(way @ way)
    t = np.clip(t, 0, 1)
    squared: Field = (
        (x - start[0] - t * way[0]) ** 2 + (y - start[1] - t * way[1]) ** 2 + (z - start[2] - t * way[2]) ** 2
    )
    return squared
