"""Which slices of each study are trained on."""

from collections import Counter
from pathlib import Path

import numpy as np

from trainer.draws import draw_slices
from trainer.samples import Sample


def study(name: str, positive: bool, count: int) -> list[Sample]:
    return [Sample("s", Path(f"{name}/{n}.jpg"), positive, name, study=name) for n in range(count)]


SAMPLES = [
    *study("sick", positive=True, count=40),
    *study("clear", positive=False, count=40),
    *study("short", positive=False, count=5),
    *(Sample("p", Path(f"{n}.png"), n % 2 == 0, str(n)) for n in range(7)),
]


def test_six_slices_of_a_positive_study_and_twelve_of_a_negative_one() -> None:
    # Source: the paper, section 2.2.
    drawn = draw_slices(SAMPLES, 6, 12, np.random.default_rng(0))

    assert Counter(sample.study for sample in drawn) == {"sick": 6, "clear": 12, "short": 5, "": 7}
    assert len({sample.path for sample in drawn}) == len(drawn)


def test_the_generator_alone_decides_and_the_order_stays() -> None:
    first, again, other = (draw_slices(SAMPLES, 6, 12, np.random.default_rng(seed)) for seed in (0, 0, 1))

    assert first == again
    assert first != other
    assert first == [sample for sample in SAMPLES if sample in first]


def test_slices_with_labels_of_their_own_are_drawn_apart() -> None:
    mixed = [*study("mixed", positive=True, count=30), *study("mixed", positive=False, count=30)]

    drawn = draw_slices(mixed, 6, 12, np.random.default_rng(0))

    assert Counter(sample.positive for sample in drawn) == {True: 6, False: 12}


def test_every_lung_slice_has_its_turn() -> None:
    drawn = (draw_slices(SAMPLES, 6, 12, np.random.default_rng((7, epoch))) for epoch in range(60))

    assert {s.path for each in drawn for s in each} == {s.path for s in SAMPLES}
