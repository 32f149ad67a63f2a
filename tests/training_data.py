"""Small pictures to train on: the sick ones have a bright patch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lungnode.recipe import Recipe, StudyRule
from trainer.samples import Sample, Split

SIZE = 64
# A recipe's file that trains within seconds.
SMALL_RECIPE = """
name = "small"
[input]
size = 64
[network]
topology = "v1.5"
init = "random"
stages = [1]
frozen = 1
[training]
epochs = 2
batch = 4
"""


def small_recipe(frozen: int = 0, **training: Any) -> Recipe:
    """A recipe that trains within seconds: the stem and one stage, which learn unless they are frozen."""
    return Recipe.model_validate(
        {
            "name": "small",
            "input": {"size": SIZE},
            "network": {
                "topology": "v1.5",
                "init": "random",
                "stages": [1],
                "frozen": frozen,
                "dropout": 0.25,
            },
            "training": {"epochs": 3, "batch": 4, "learning_rate": 0.002, **training},
        }
    )


def exact_recipe(**network: Any) -> Recipe:
    """A recipe whose head alone is fitted, to its optimum."""
    small = small_recipe(frozen=1, optimizer="exact", weight_decay=0.1).model_dump()
    small["network"] |= {"spread": True} | network
    small["input"] |= {"views": ["crop", "whole mirrored"]}
    small["data"] |= {"painted": bool(network.get("lesion_cells"))}
    return Recipe.model_validate(small)


def deep_recipe(**network: Any) -> Recipe:
    """A recipe that reads the slices of a study with their neighbours."""
    return exact_recipe(**network).model_copy(update={"study": StudyRule(depth_mm=5.0)})


def draw_slices(folder: Path, count: int, seed: int = 0) -> list[Sample]:
    """Draw pictures, half of them sick, a patient each; every fourth is for validation."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    return [_draw(folder, number, random) for number in range(count)]


def _draw(folder: Path, number: int, random: np.random.Generator) -> Sample:
    positive = number % 2 == 1
    pixels = random.integers(0, 120, (SIZE, SIZE)).astype(np.uint8)
    if positive:
        row, column = random.integers(10, SIZE - 26, 2)
        pixels[row : row + 16, column : column + 16] += 120
    path = folder / f"{number}.png"
    Image.fromarray(pixels).save(path)
    split = Split.VALIDATION if number % 8 > 5 else Split.TRAIN
    return Sample("drawn", path, positive, f"patient {number}", split)


def of_split(samples: Sequence[Sample], split: Split) -> list[Sample]:
    """Return the samples of a split."""
    return [sample for sample in samples if sample.split is split]
