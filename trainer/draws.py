"""Which slices of each study are trained on: a few of a positive one, more of a negative one."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from trainer.samples import Sample


def draw_slices(
    samples: Sequence[Sample], positive: int, negative: int, random: np.random.Generator
) -> list[Sample]:
    """Draw slices without repetition, at most so many of each study; pictures that stand alone all stay.

    Where slices of one study have labels of their own, the positive and the negative ones are drawn apart.

    Args:
        samples: Lung slices.
        positive: Positive slices of each study; the paper took 6 and
        negative: 12 negative ones, which balanced its classes.
        random: Decides; another state draws other slices.

    Returns:
        The drawn samples in the order of `samples`.
    """
    studies: dict[tuple[str, bool], list[int]] = defaultdict(list)
    drawn = [number for number, sample in enumerate(samples) if not sample.study]
    for number, sample in enumerate(samples):
        if sample.study:
            studies[sample.study, sample.positive].append(number)
    for (_, is_positive), numbers in studies.items():
        count = min(positive if is_positive else negative, len(numbers))
        drawn += random.choice(numbers, count, replace=False).tolist()
    return [samples[number] for number in sorted(drawn)]
