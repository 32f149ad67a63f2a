"""The summary page: what was found, for a reader who opens the series and nothing else."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from worker.result import Context, StudyFinding
from worker.rle import Color
from worker.wording import conclusion, remarks


def draw_summary(finding: StudyFinding, context: Context) -> Color:
    """Return the page."""
    page = Image.new("RGB", (1024, 1024))
    pen = ImageDraw.Draw(page)
    font = ImageFont.load_default(22)
    for line, text in enumerate([conclusion(finding), *remarks(finding, context)]):
        pen.text((40, 40 + 36 * line), text, font=font, fill="white")
    pixels: Color = np.asarray(page)
    return pixels
