"""What is written on a heatmap: its scale, the slice's probability, and what it may be used for."""

from functools import lru_cache
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from lungnode.heatmap import FLOOR, Color, colors
from worker.outputs.drawing import WHITE, font

SMALLEST_LETTERS: Final = 7
_BLACK: Final = (0, 0, 0)
_Written = tuple[tuple[int, int, int, int], Image.Image, Image.Image]  # where; masks of dark rim and letters
_VALUES: Final = (0.0, FLOOR, 0.5, 0.75, 1.0)  # that the scale names


def annotate(pixels: Color, title: str, notice: str) -> Color:
    """Return a copy with the title above, the scale at the right edge and the notice below."""
    image = Image.fromarray(pixels)
    _draw_scale(image)
    for box, rim, letters in _legend(image.width, image.height, notice):
        image.paste(_BLACK, box, rim)
        image.paste(WHITE, box, letters)
    margin, pen = _margin(image.height), ImageDraw.Draw(image)
    size = _fitting(title, _letters(image.height), image.width - 2 * margin)
    # A dark rim keeps letters readable on bone and table.
    pen.text((margin, margin), title, WHITE, font(size), stroke_width=1, stroke_fill=_BLACK)
    annotated: Color = np.asarray(image)
    return annotated


@lru_cache(maxsize=4)
def _legend(width: int, height: int, notice: str) -> tuple[_Written, ...]:
    """Return what is written on every slice of this size: nothing of a heatmap takes longer than letters."""
    left, top, bar = _bar(width, height)
    margin, size = _margin(height), max(SMALLEST_LETTERS, _letters(height) * 4 // 5)
    lines = [((left - margin / 2, top + bar * (1 - value)), f"{value:.2g}", size, "rm") for value in _VALUES]
    lines.append(((width - margin, top - margin), "activation", size, "rd"))
    if notice:
        size = _fitting(notice, _letters(height), width - 2 * margin)
        lines.append(((width / 2, height - margin), notice, size, "md"))
    return tuple(_written(width, height, *line) for line in lines)


def _written(width: int, height: int, at: tuple[float, float], text: str, size: int, anchor: str) -> _Written:
    rim, letters = Image.new("L", (width, height)), Image.new("L", (width, height))
    ImageDraw.Draw(rim).text(at, text, 255, font(size), anchor, stroke_width=1, stroke_fill=255)
    ImageDraw.Draw(letters).text(at, text, 255, font(size), anchor)
    box = rim.getbbox() or (0, 0, 1, 1)
    return box, rim.crop(box), letters.crop(box)


def _draw_scale(image: Image.Image) -> None:
    left, top, height = _bar(image.width, image.height)
    right = image.width - _margin(image.height)
    ramp = np.linspace(1, 0, height, dtype=np.float32)[:, np.newaxis]
    bar = np.where(ramp[..., np.newaxis] > FLOOR, colors(ramp), 60).astype(np.uint8)
    image.paste(Image.fromarray(np.repeat(bar, right - left, axis=1)), (left, top))
    ImageDraw.Draw(image).rectangle((left - 1, top - 1, right, top + height), outline=WHITE)


def _bar(width: int, height: int) -> tuple[int, int, int]:
    """Return left edge, top edge and height of the scale on an image of this size."""
    bar = height // 3
    return width - _margin(height) - max(4, height // 50), (height - bar) // 2, bar


def _margin(height: int) -> int:
    return max(4, height // 64)


def _letters(height: int) -> int:
    return max(SMALLEST_LETTERS, height // 36)


def _fitting(text: str, size: int, width: int) -> int:
    while size > SMALLEST_LETTERS and font(size).getlength(text) > width:
        size -= 1
    return size
