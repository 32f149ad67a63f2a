"""Slices of one gray, which the toy model finds as likely as they are bright, and what it says of them."""

from pathlib import Path

import numpy as np
from PIL import Image

from lungnode.model_folder import Decision
from lungnode.pixels import Gray
from tests.toy_model import MeanGray
from trainer.evaluate import Evaluation, evaluate
from trainer.samples import Sample, Split


def gray_slice(folder: Path, name: str, gray: int | Gray) -> Path:
    """Write a PNG of one gray, or of these pixels."""
    pixels = np.full((40, 40), gray, np.uint8) if isinstance(gray, int) else gray
    Image.fromarray(pixels).save(folder / name)
    return folder / name


def chest(lesion: int = 0) -> Gray:
    """Draw two lungs in a body that fills the picture; a lesion has this gray."""
    y, x = np.mgrid[:120, :160]
    pixels = np.full((120, 160), 230, np.uint8)
    for center in (45, 115):
        pixels[((x - center) / 28) ** 2 + ((y - 60) / 45) ** 2 < 1] = 30
    if lesion:
        pixels[50:60, 40:50] = lesion
    return pixels


def judged(folder: Path, *, studies: bool = False) -> Evaluation:
    """Let the toy model judge twenty patients: two sick ones are missed, one healthy one is not."""
    grays = [*range(120, 220, 10), *range(20, 120, 10)]
    samples = [
        Sample(
            source="one" if number % 2 else "two",
            path=gray_slice(folder, f"{number}.png", gray),
            positive=number < 10,
            group=f"patient {number}",
            split=Split.TEST,
            study=f"1.2.{number}" if studies else "",
            attributes={"sex": "F", "age": "40-49"} if number % 4 else {"sex": "M"},
        )
        for number, gray in enumerate(grays)
    ]
    model = MeanGray(decision=Decision(threshold=139 / 255))
    return evaluate(model, samples)
