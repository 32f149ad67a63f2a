"""Network inputs made of samples: as they are, disturbed, and with painted lesions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lungnode.pixels import Gray, crop_box, model_input
from lungnode.recipe import Recipe
from trainer.development import read_gray
from trainer.jitter import Jitter, compress
from trainer.painting import paint_lesions
from trainer.samples import Sample


@dataclass(frozen=True)
class Example:
    """One network input."""

    sample: Sample
    image: Gray  # shape (size, size)
    positive: bool
    genuine: bool  # neither disturbed nor painted: these alone are evaluated


def make_examples(samples: Sequence[Sample], recipe: Recipe) -> Iterator[Example]:
    """Yield each sample as it is and disturbed, and one of a healthy scan with lesions as well."""
    for number, sample in enumerate(samples):
        random = np.random.default_rng((recipe.training.seed, number))
        gray = read_gray(sample.path)
        plain, disturbed = _inputs(gray, recipe, random)
        yield Example(sample, plain, sample.positive, genuine=True)
        yield Example(sample, disturbed, sample.positive, genuine=False)
        painted = paint_lesions(gray, random) if sample.healthy_scan else None
        if painted is not None:
            for image in _inputs(painted, recipe, random):
                yield Example(sample, image, positive=True, genuine=False)


def _inputs(gray: Gray, recipe: Recipe, random: np.random.Generator) -> tuple[Gray, Gray]:
    """Return the slice as the network sees it, plain and disturbed."""
    box = crop_box(gray, recipe.input.crop)
    plain = compress(model_input(gray, box, recipe.input.size), recipe.input.jpeg_quality)
    return plain, Jitter(recipe.input.size, random)(gray, box)
