"""Disturbances that must not change an answer: window, sharpness, noise, crop, side, compression."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from lungnode.pixels import Box, Gray
from lungnode.views import Place
from trainer.jpeg import compress

CROP: Final = 0.05  # of the box's side, at each edge
GAMMA: Final = (0.75, 1.33)
GAIN: Final = (0.85, 1.15)
OFFSET: Final = (-0.08, 0.08)
SIDE: Final = (110, 299)  # resolution that a figure may have been printed at
NOISE: Final = (1.0, 8.0)  # gray levels
QUALITY: Final = (40, 96)  # of JPEG


@dataclass(frozen=True)
class Jitter:
    """Draws disturbances; the same seed draws the same ones, in the order of the calls."""

    size: int
    random: np.random.Generator

    def place(self, box: Box, shape: tuple[int, ...]) -> Place:
        """Draw which part of a slice is seen, and from which side."""
        moved = self._moved(box, shape)
        return Place(moved, self.size, mirrored=self.random.random() < 0.5)  # noqa: PLR2004 - one of two

    def disturb(self, image: Gray) -> Gray:
        """Return a network input with another window, sharpness, noise and compression."""
        image = self._noisy(self._blurred(self._windowed(image)))
        return compress(image, int(self.random.integers(*QUALITY)))

    def _moved(self, box: Box, shape: tuple[int, ...]) -> Box:
        rows, columns = box.bottom - box.top, box.right - box.left
        shifts = [round(side * self.random.uniform(-CROP, CROP)) for side in (rows, rows, columns, columns)]
        return Box(
            max(0, box.top + shifts[0]),
            min(shape[0], box.bottom + shifts[1]),
            max(0, box.left + shifts[2]),
            min(shape[1], box.right + shifts[3]),
        )

    def _windowed(self, image: Gray) -> Gray:
        scaled = (image / 255) ** self.random.uniform(*GAMMA)
        scaled = scaled * self.random.uniform(*GAIN) + self.random.uniform(*OFFSET)
        windowed: Gray = (scaled.clip(0, 1) * 255).astype(np.uint8)
        return windowed

    def _blurred(self, image: Gray) -> Gray:
        if self.random.random() > 0.6:  # noqa: PLR2004 - most published figures are small
            return image
        side = int(self.random.integers(*SIDE))
        small = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
        return np.asarray(small.resize((self.size, self.size), Image.Resampling.BICUBIC))

    def _noisy(self, image: Gray) -> Gray:
        if self.random.random() > 0.4:  # noqa: PLR2004 - JPEG has smoothed the rest
            return image
        noise = self.random.standard_normal(image.shape) * self.random.uniform(*NOISE)
        return (image + noise).clip(0, 255).astype(np.uint8)
