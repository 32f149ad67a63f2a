"""Slices of one study that lie beside each other are judged together, as a worker judges them."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from lungnode.depth import look_in_depth
from lungnode.recipe import Recipe
from trainer.blocks import Array
from trainer.features import Case
from trainer.samples import Sample


def stacks(samples: Iterable[tuple[int, Sample]]) -> Iterator[tuple[list[int], list[float]]]:
    """Yield the numbers of each study's slices, and where they lie; without a position they are left out."""
    found: dict[str, dict[int, float]] = {}
    for number, sample in samples:
        if sample.study and sample.position_mm is not None:
            found.setdefault(sample.study, {})[number] = sample.position_mm
    for positions in found.values():
        yield list(positions), list(positions.values())


def join_studies(
    cases: Sequence[Case], class_maps: Array, outputs: Array, recipe: Recipe
) -> tuple[Array, Array]:
    """Return class maps and outputs of cases once their neighbours are heard.

    Painted lesions are of one slice alone: such a case stands for itself.

    Args:
        cases: What was judged.
        class_maps: Of each case.
        outputs: Of each case; what a lesion head says is part of every column.
        recipe: Of the training.
    """
    maps, joined = class_maps.copy(), outputs.copy()
    genuine = ((row, case.sample) for row, case in enumerate(cases) if not case.painted)
    for rows, positions_mm in stacks(genuine):
        maps[rows], gains = look_in_depth(class_maps[rows], positions_mm, recipe)
        joined[rows] += gains[:, np.newaxis]
    return maps, joined
