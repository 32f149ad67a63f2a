"""The summary page: what was found, for a reader who opens the series and nothing else."""

from collections.abc import Sequence
from datetime import datetime
from textwrap import wrap
from typing import Final

import numpy as np

from lungnode.heatmap import Color, spread_highest
from worker.outputs.capture import Picture
from worker.outputs.drawing import BACKGROUND, FAINT, PANEL, SOFT, WHITE, Canvas, Paint
from worker.outputs.wording import FINDING, conclusion, image_name, notice, plain, slices_in_words
from worker.result import Context, StudyFinding, Verdict

SIZE: Final = 1024
MARGIN: Final = 40
RIGHT: Final = SIZE - MARGIN
MOSAIC: Final = 5  # slices shown small
PAINTS: Final = {
    Verdict.POSITIVE: (246, 150, 72),
    Verdict.NEGATIVE: (92, 196, 160),
    Verdict.UNDETERMINED: (236, 206, 96),
}
CURVE: Final = (120, 172, 232)
CURVE_FILL: Final = (34, 52, 74)


def draw_summary(
    finding: StudyFinding, context: Context, pictures: Sequence[Picture], identification: str = ""
) -> Color:
    """Return the page of a finding with slices.

    Args:
        finding: A verdict that rests on slices.
        context: Of the analysis.
        pictures: The drawn slices, in the study's order.
        identification: Drawn below the title when not empty.
    """
    canvas = Canvas(SIZE, SIZE)
    paint = PAINTS.get(finding.verdict, SOFT)
    _draw_title(canvas, context, identification)
    _draw_verdict(canvas, finding, paint)
    _draw_scale(canvas, finding, paint)
    _draw_curve(canvas, finding, pictures)
    _draw_mosaic(canvas, pictures)
    _draw_foot(canvas, finding, context)
    return canvas.pixels()


def _draw_title(canvas: Canvas, context: Context, identification: str) -> None:
    canvas.text((MARGIN, 34), "Lungnode", 34)
    canvas.text((MARGIN, 76), f"Chest CT: {FINDING}", 20, SOFT)
    at = datetime.fromisoformat(context.created_at)
    made = f"{at:%Y-%m-%d %H:%M} {at.tzname() or ''}".strip()
    canvas.text((RIGHT, 40), f"{made}   revision {context.revision}", 20, SOFT, "ra")
    canvas.text((RIGHT, 76), identification, 20, WHITE, "ra")


def _draw_verdict(canvas: Canvas, finding: StudyFinding, paint: Paint) -> None:
    canvas.box((MARGIN, 120, RIGHT, 330), PANEL, 12)
    canvas.box((MARGIN, 120, MARGIN + 8, 330), paint, 4)
    canvas.text((MARGIN + 36, 142), finding.verdict.value.upper(), 52, paint)
    for line, text in enumerate(_wrapped(conclusion(finding), 78, 3)):
        canvas.text((MARGIN + 36, 204 + 21 * line), text, 17, WHITE)
    if finding.probability is not None:
        canvas.text((RIGHT - 36, 142), f"{finding.probability:.2f}", 52, paint, "ra")
        canvas.text((RIGHT - 36, 208), "probability", 19, SOFT, "ra")


def _draw_scale(canvas: Canvas, finding: StudyFinding, paint: Paint) -> None:
    """Draw the probability from 0 to 1 against the threshold."""
    left, right, y = MARGIN + 36, RIGHT - 36, 280
    width = right - left
    canvas.box((left, y - 5, right, y + 5), FAINT, 5)
    if finding.probability is not None:
        at = left + width * finding.probability
        canvas.box((left, y - 5, max(at, left + 10), y + 5), paint, 5)
        at = min(max(at, left + 7), right - 7)
        canvas.dot((at, y), 10, WHITE)
        canvas.dot((at, y), 7, paint)
    mark = left + width * finding.threshold
    canvas.line([(mark, y - 14), (mark, y + 14)], WHITE, 2)
    canvas.text((mark, y + 18), f"threshold {finding.threshold:.2f}", 16, SOFT, "ma")
    canvas.text((left, y + 18), "0", 16, SOFT, "la")
    canvas.text((right, y + 18), "1", 16, SOFT, "ra")


def _draw_curve(canvas: Canvas, finding: StudyFinding, pictures: Sequence[Picture]) -> None:
    """Draw the probability of each slice from top to bottom of the lung."""
    canvas.box((MARGIN, 350, RIGHT, 602), PANEL, 12)
    canvas.text((MARGIN + 24, 366), "Probability by slice", 19, WHITE)
    canvas.text((RIGHT - 24, 366), f"{slices_in_words(finding)} analysed", 17, SOFT, "ra")
    left, right, top, bottom = MARGIN + 60, RIGHT - 30, 404, 560
    for value in (0.0, 0.5, 1.0):
        y = bottom - (bottom - top) * value
        canvas.line([(left, y), (right, y)], FAINT, 1)
        canvas.text((left - 10, y), f"{value:g}", 15, SOFT, "rm")
    across = (
        np.linspace(left, right, len(finding.slices)) if len(finding.slices) > 1 else [(left + right) / 2]
    )
    points = [
        (float(x), bottom - (bottom - top) * item.probability)
        for x, item in zip(across, finding.slices, strict=True)
    ]
    if len(points) > 1:
        canvas.area([(left, bottom), *points, (right, bottom)], CURVE_FILL)
        canvas.line(points, CURVE, 2.5)
    shown = {id(picture.item) for picture in pictures}
    for point, item in zip(points, finding.slices, strict=True):
        if id(item) in shown:
            canvas.dot(point, 4.5, WHITE)
    y = bottom - (bottom - top) * finding.threshold
    canvas.dashes((left, y), right - left, SOFT)
    canvas.text((left, bottom + 10), "top of the lung", 15, SOFT)
    canvas.text((right, bottom + 10), "bottom", 15, SOFT, "ra")
    canvas.text(((left + right) / 2, bottom + 10), "dots: slices with a heatmap", 15, SOFT, "ma")


def _draw_mosaic(canvas: Canvas, pictures: Sequence[Picture]) -> None:
    """Show some of the drawn slices, the most suspicious ones, in the study's order."""
    chosen = spread_highest([picture.item.probability for picture in pictures], MOSAIC)
    gap = 14
    side = (RIGHT - MARGIN - gap * (MOSAIC - 1)) // MOSAIC
    for column, picture in enumerate(pictures[index] for index in chosen):
        left = MARGIN + column * (side + gap)
        canvas.picture((left, 622), (side, side), picture.bare)
        canvas.text((left, 622 + side + 8), image_name(picture.item, picture.source), 16, SOFT)
        canvas.text((left + side, 622 + side + 8), f"{picture.item.probability:.2f}", 16, WHITE, "ra")


def _draw_foot(canvas: Canvas, finding: StudyFinding, context: Context) -> None:
    lines = [
        f"Completeness of the study: {context.completeness or 'not known'}",
        *(sentence for sentence in finding.choice[:2]),
        f"Model {context.model_name} {context.model_version}, SHA-256 {context.model_digest[:16]}...",
    ]
    for number, text in enumerate(lines):
        canvas.text((MARGIN, 850 + 26 * number), _cut(plain(text), 108), 17, SOFT)
    if notice(context):
        canvas.box((MARGIN, 962, RIGHT, 1000), PAINTS[Verdict.UNDETERMINED], 8)
        canvas.text((SIZE / 2, 981), notice(context), 20, BACKGROUND, "mm")


def _wrapped(text: str, width: int, lines: int) -> list[str]:
    return wrap(text, width, max_lines=lines, placeholder=" ...")


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."
