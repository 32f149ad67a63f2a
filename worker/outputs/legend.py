"""What is written on a heatmap: its scale, the slice's probability, and what it may be used for."""

from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from lungnode.heatmap import FLOOR, Color, colors
from worker.outputs.drawing import WHITE, font

SMALLEST_LETTERS: Final = 7
_BLACK: Final = (0, 0, 0)


def annotate(pixels: Color, title: str, notice: str) -> Color:
    """Return a copy with the title above, the scale at the right edge and the notice below."""
    image = Image.fromarray(pixels)
    pen = ImageDraw.Draw(image)
    margin = max(4, image.height // 64)
    size = max(SMALLEST_LETTERS, image.height // 36)
    _draw_scale(image, pen, margin, size)
    _write(pen, (margin, margin), title, _fitting(pen, title, size, image.width - 2 * margin), "la")
    if notice:
        letters = _fitting(pen, notice, size, image.width - 2 * margin)
        _write(pen, (image.width / 2, image.height - margin), notice, letters, "md")
    annotated: Color = np.asarray(image)
    return annotated


def _draw_scale(image: Image.Image, pen: ImageDraw.ImageDraw, margin: int, size: int) -> None:
    height, width = image.height // 3, max(4, image.height // 50)
    top, left = (image.height - height) // 2, image.width - margin - width
    ramp = np.linspace(1, 0, height, dtype=np.float32)[:, np.newaxis]
    bar = np.where(ramp[..., np.newaxis] > FLOOR, colors(ramp), 60).astype(np.uint8)
    image.paste(Image.fromarray(np.repeat(bar, width, axis=1)), (left, top))
    pen.rectangle((left - 1, top - 1, left + width, top + height), outline=WHITE)
    letters = max(SMALLEST_LETTERS, size * 4 // 5)
    for value in (0.0, FLOOR, 0.5, 0.75, 1.0):
        at = (left - margin / 2, top + height * (1 - value))
        _write(pen, at, f"{value:.2g}", letters, "rm")
    _write(pen, (image.width - margin, top - margin), "activation", letters, "rd")


def _fitting(pen: ImageDraw.ImageDraw, text: str, size: int, width: int) -> int:
    while size > SMALLEST_LETTERS and pen.textlength(text, font=font(size)) > width:
        size -= 1
    return size


def _write(pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, anchor: str) -> None:
    # A dark rim keeps letters readable on bone and table.
    pen.text(at, text, font=font(size), fill=WHITE, anchor=anchor, stroke_width=1, stroke_fill=_BLACK)
