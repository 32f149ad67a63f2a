"""Letters and lines on our images: one font, smooth edges."""

from functools import lru_cache
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lungnode.heatmap import Color

Paint = tuple[int, int, int]

WHITE: Final = (240, 243, 246)
SOFT: Final = (160, 170, 182)
FAINT: Final = (70, 80, 92)
PANEL: Final = (27, 33, 41)
BACKGROUND: Final = (15, 18, 23)

SMOOTHING: Final = 2  # everything is drawn this many times larger, then reduced: Pillow's lines are jagged


@lru_cache(maxsize=32)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font that Pillow carries with it: the same letters on every host."""
    return ImageFont.load_default(size)


class Canvas:
    """An image to draw on, in its own pixels; larger inside."""

    def __init__(self, columns: int, rows: int) -> None:
        self._image = Image.new("RGB", (columns * SMOOTHING, rows * SMOOTHING), BACKGROUND)
        self._pen = ImageDraw.Draw(self._image)

    def text(
        self, at: tuple[float, float], text: str, size: int, paint: Paint = WHITE, anchor: str = "la"
    ) -> None:
        """Write one line; `anchor` as in Pillow: "la" is left, ascender."""
        x, y = at
        place = (x * SMOOTHING, y * SMOOTHING)
        self._pen.text(place, text, font=font(size * SMOOTHING), fill=paint, anchor=anchor)

    def box(self, area: tuple[float, float, float, float], paint: Paint, radius: float = 0) -> None:
        """Fill a rectangle (left, top, right, bottom)."""
        self._pen.rounded_rectangle(_scaled(area), radius * SMOOTHING, fill=paint)

    def line(self, points: list[tuple[float, float]], paint: Paint, width: float = 1) -> None:
        """Join the points."""
        scaled = [_scaled(point) for point in points]
        self._pen.line(scaled, fill=paint, width=round(width * SMOOTHING), joint="curve")

    def dashes(self, start: tuple[float, float], length: float, paint: Paint) -> None:
        """Draw a horizontal dashed line."""
        x, y = start
        for step in np.arange(0, length, 10):
            self.line([(x + step, y), (x + min(step + 6, length), y)], paint, 1.5)

    def area(self, points: list[tuple[float, float]], paint: Paint) -> None:
        """Fill a polygon."""
        self._pen.polygon([_scaled(point) for point in points], fill=paint)

    def dot(self, at: tuple[float, float], radius: float, paint: Paint) -> None:
        """Fill a circle."""
        x, y = at
        self._pen.ellipse(_scaled((x - radius, y - radius, x + radius, y + radius)), fill=paint)

    def picture(self, at: tuple[int, int], size: tuple[int, int], pixels: Color) -> None:
        """Put an image into a rectangle of `size` (columns, rows), its proportions kept."""
        image = Image.fromarray(pixels)
        factor = min(size[0] / image.width, size[1] / image.height) * SMOOTHING
        fitted = image.resize(
            (max(1, round(image.width * factor)), max(1, round(image.height * factor))),
            Image.Resampling.BICUBIC,
        )
        left = at[0] * SMOOTHING + (size[0] * SMOOTHING - fitted.width) // 2
        top = at[1] * SMOOTHING + (size[1] * SMOOTHING - fitted.height) // 2
        self._image.paste(fitted, (left, top))

    def pixels(self) -> Color:
        """Return what was drawn."""
        reduced: Color = np.asarray(self._image.reduce(SMOOTHING))
        return reduced


def _scaled(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(value * SMOOTHING for value in values)
